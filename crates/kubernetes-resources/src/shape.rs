//! The shape of a REST body: as the schema of a resource, and to read a resource as that body.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use slipway_domain::Invalid;
use slipway_training_manifests::quantity;
use utoipa::ToSchema;

use crate::naming;

/// A quantity, as Kubernetes' own validation of custom resources describes it.
///
/// Source: <https://github.com/kubernetes-sigs/controller-tools/blob/main/pkg/crd/known_types.go>.
const QUANTITY_PATTERN: &str = "^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|\
    ([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$";
/// What a schema says about one value.
const ABOUT_VALUES: [&str; 5] = ["enum", "format", "maximum", "minimum", "pattern"];

/// What a value is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Named fields.
    Object(Vec<Field>),
    /// Values by names that the user chooses.
    Map(Box<Shape>),
    /// A list.
    List(Box<Shape>),
    /// A size in bytes, written as a quantity.
    Size,
    /// An object of a type of Kubernetes.
    Any,
    /// One value, with its schema.
    Scalar(Value),
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// Its name in the resource.
    pub(crate) name: String,
    /// Path of its name in the REST body.
    pub(crate) json_path: Vec<String>,
    /// Its description, with the names of the resource.
    pub(crate) description: String,
    /// Whether it must be there.
    pub(crate) required: bool,
    pub(crate) shape: Shape,
}

impl Shape {
    /// The shape of a type.
    pub(crate) fn of<T: ToSchema>() -> Self {
        let mut named = Vec::new();
        T::schemas(&mut named);
        let named = named.into_iter().map(|(name, schema)| (name, json!(schema))).collect();
        read(&json!(T::schema()), &named)
    }

    /// Fields, for an object.
    pub(crate) fn into_fields(self) -> Vec<Field> {
        match self {
            Self::Object(fields) => fields,
            _ => Vec::new(),
        }
    }

    /// A structural schema.
    ///
    /// Source: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.
    pub(crate) fn schema(&self) -> Value {
        match self {
            Self::Object(fields) => {
                let properties: Map<String, Value> = fields
                    .iter()
                    .map(|field| {
                        let mut schema = field.shape.schema();
                        schema["description"] = json!(field.description);
                        (field.name.clone(), schema)
                    })
                    .collect();
                let required: Vec<&String> =
                    fields.iter().filter(|field| field.required).map(|field| &field.name).collect();
                let mut schema = json!({"type": "object", "properties": properties});
                if !required.is_empty() {
                    schema["required"] = json!(required);
                }
                schema
            }
            Self::Map(values) => json!({"type": "object", "additionalProperties": values.schema()}),
            Self::List(items) => json!({"type": "array", "items": items.schema()}),
            Self::Size => json!({"anyOf": [{"type": "integer"}, {"type": "string"}],
                "pattern": QUANTITY_PATTERN, "x-kubernetes-int-or-string": true}),
            Self::Any => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            Self::Scalar(schema) => schema.clone(),
        }
    }

    /// The REST body that a value of a resource means.
    ///
    /// # Errors
    /// There is no such field, or a quantity is none; the path is that of the resource.
    pub(crate) fn body(&self, value: &Value, path: &str) -> Result<Value, Invalid> {
        match (self, value) {
            (Self::Object(fields), Value::Object(given)) => {
                let mut body = json!({});
                for (name, value) in given {
                    let at = format!("{path}.{name}");
                    let field = fields
                        .iter()
                        .find(|field| field.name == *name)
                        .ok_or_else(|| Invalid::new(&at, "there is no such field"))?;
                    put(&mut body, &field.json_path, field.shape.body(value, &at)?);
                }
                Ok(body)
            }
            (Self::Map(values), Value::Object(given)) => {
                let body = |(name, value): (&String, &Value)| {
                    Ok((name.clone(), values.body(value, &format!("{path}.{name}"))?))
                };
                given.iter().map(body).collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
            (Self::List(items), Value::Array(given)) => {
                let body = |(index, value)| items.body(value, &format!("{path}[{index}]"));
                given.iter().enumerate().map(body).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            (Self::Size, value) => quantity::whole(value)
                .map(Value::from)
                .ok_or_else(|| Invalid::new(path, format!("expected a quantity such as 16Gi, got {value}"))),
            // What has another type than the schema says is refused where the body is read.
            (_, value) => Ok(value.clone()),
        }
    }

    /// A path of the REST body as that of the resource. What is no field's name stays as it is.
    pub(crate) fn path(&self, json_path: &str) -> String {
        let Self::Object(fields) = self else {
            return match self {
                Self::Map(values) => below(json_path, |rest| values.path(rest)),
                Self::List(items) => below(json_path, |rest| items.path(rest)),
                _ => json_path.to_owned(),
            };
        };
        for field in fields {
            let own = field.json_path.join(".");
            let Some(rest) = json_path.strip_prefix(&own) else { continue };
            if rest.is_empty() {
                return field.name.clone();
            }
            if rest.starts_with('[') {
                return format!("{}{}", field.name, field.shape.path(rest));
            }
            if let Some(rest) = rest.strip_prefix('.') {
                return format!("{}.{}", field.name, field.shape.path(rest));
            }
        }
        json_path.to_owned()
    }
}

/// Leaves the first step of a path, an index or a name that the user chose, as it is.
fn below(json_path: &str, rest_of: impl Fn(&str) -> String) -> String {
    let end =
        if json_path.starts_with('[') { json_path.find("].").map(|at| at + 1) } else { json_path.find('.') };
    match end {
        Some(end) => format!("{}.{}", &json_path[..end], rest_of(&json_path[end + 1..])),
        None => json_path.to_owned(),
    }
}

fn put(body: &mut Value, path: &[String], value: Value) {
    if let Some((name, rest)) = path.split_first() {
        if rest.is_empty() {
            body[name.as_str()] = value;
        } else {
            if body[name.as_str()].is_null() {
                body[name.as_str()] = json!({});
            }
            put(&mut body[name.as_str()], rest, value);
        }
    }
}

fn read(schema: &Value, named: &BTreeMap<String, Value>) -> Shape {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return named.get(name).map_or(Shape::Any, |schema| read(schema, named));
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        // An object that may be left out is described as itself or null.
        let present = choices.iter().find(|choice| choice["type"] != "null");
        return present.map_or(Shape::Any, |present| read(present, named));
    }
    match kind_of(schema) {
        "object" => match (&schema["properties"], &schema["additionalProperties"]) {
            (Value::Object(properties), _) => Shape::Object(fields(properties, &schema["required"], named)),
            (_, values @ Value::Object(_)) => Shape::Map(Box::new(read(values, named))),
            _ => Shape::Any,
        },
        "array" => Shape::List(Box::new(read(&schema["items"], named))),
        kind => {
            let mut scalar = json!({"type": kind});
            for name in ABOUT_VALUES {
                if let Some(value) = schema.get(name) {
                    scalar[name] = value.clone();
                }
            }
            Shape::Scalar(scalar)
        }
    }
}

/// The type of a value, apart from null.
fn kind_of(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("")
        }
        _ => "",
    }
}

fn fields(properties: &Map<String, Value>, required: &Value, named: &BTreeMap<String, Value>) -> Vec<Field> {
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|at| at == name));
    let field = |(name, schema): (&String, &Value)| Field {
        name: naming::field(name),
        json_path: vec![name.clone()],
        description: naming::description(describe(schema, named)),
        required: is_required(name),
        shape: if naming::is_size(name) { Shape::Size } else { read(schema, named) },
    };
    properties.iter().map(field).collect()
}

/// The description of a field, or of its type.
fn describe<'schema>(schema: &'schema Value, named: &'schema BTreeMap<String, Value>) -> &'schema str {
    if let Some(text) = schema["description"].as_str() {
        return text;
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return choices.iter().find(|choice| choice["type"] != "null").map_or("", |one| describe(one, named));
    }
    let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()).unwrap_or_default();
    named.get(name).and_then(|schema| schema["description"].as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    /// A disk.
    #[derive(Serialize, ToSchema)]
    struct Disk {
        /// Its size.
        size_bytes: Option<u64>,
        /// Its path.
        mount_path: String,
    }

    #[derive(Serialize, ToSchema)]
    struct Body {
        /// Disks by name; see `disks.mount_path`.
        disks: BTreeMap<String, Disk>,
        /// A list.
        more_disks: Vec<Disk>,
        /// One that may be missing.
        last_disk: Option<Disk>,
        #[schema(value_type = Option<Object>)]
        affinity: Option<Value>,
        limit_s: u32,
    }

    #[test]
    fn a_schema_has_types_and_names_that_kubernetes_accepts() {
        let schema = Shape::of::<Body>().schema();
        let properties = &schema["properties"];
        assert_eq!(properties["limitSeconds"]["format"], "int32", "{schema:#}");
        assert_eq!(properties["affinity"]["x-kubernetes-preserve-unknown-fields"], true);
        assert_eq!(properties["lastDisk"]["description"], "One that may be missing.");
        let disk = &properties["disks"]["additionalProperties"];
        assert_eq!(disk["properties"]["size"]["x-kubernetes-int-or-string"], true, "{schema:#}");
        assert_eq!(properties["moreDisks"]["items"]["required"], json!(["mountPath"]));
        assert_eq!(properties["disks"]["description"], "Disks by name; see `disks.mountPath`.");
        let text = schema.to_string();
        assert!(!text.contains("$ref") && !text.contains("null") && !text.contains("oneOf"), "{text}");
    }

    #[test]
    fn a_value_is_read_as_the_body_and_names_of_the_user_stay() {
        let shape = Shape::of::<Body>();
        let given = json!({"limitSeconds": 5, "affinity": {"nodeAffinity": {"someField": 1}},
            "disks": {"my_disk": {"size": "2Ki", "mountPath": "/a"}}, "moreDisks": [{"size": 7}]});
        let expected = json!({"limit_s": 5, "affinity": {"nodeAffinity": {"someField": 1}},
            "disks": {"my_disk": {"size_bytes": 2_048, "mount_path": "/a"}},
            "more_disks": [{"size_bytes": 7}]});
        assert_eq!(shape.body(&given, "spec"), Ok(expected));
        for (given, field) in [
            (json!({"limit_s": 5}), "spec.limit_s"),
            (json!({"moreDisks": [{"size": "many"}]}), "spec.moreDisks[0].size"),
            (json!({"disks": {"a": {"path": ""}}}), "spec.disks.a.path"),
        ] {
            assert_eq!(shape.body(&given, "spec").unwrap_err().field, field);
        }
    }

    #[test]
    fn a_path_of_the_body_is_told_as_one_of_the_resource() {
        let shape = Shape::of::<Body>();
        for (json_path, expected) in [
            ("limit_s", "limitSeconds"),
            ("more_disks[3].mount_path", "moreDisks[3].mountPath"),
            ("more_disks[3]", "moreDisks[3]"),
            ("disks.my_disk.size_bytes", "disks.my_disk.size"),
            ("disks.my_disk", "disks.my_disk"),
            ("disks[\"a.b\"]", "disks[\"a.b\"]"),
            ("affinity.node_affinity", "affinity.node_affinity"),
            ("unknown_field", "unknown_field"),
        ] {
            assert_eq!(shape.path(json_path), expected);
        }
    }
}
