//! Compares JSON with a schema of the document. A field that the schema does not have is a violation, though
//! JSON Schema would allow it; so is a keyword that is not known here.

use serde_json::{Map, Value};

const MAX_VIOLATIONS: usize = 5;
const MAX_DEPTH: usize = 64;
/// Keywords that say nothing about a value, or are checked below.
const KNOWN: [&str; 25] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "default",
    "deprecated",
    "description",
    "enum",
    "example",
    "examples",
    "format",
    "items",
    "maximum",
    "minimum",
    "oneOf",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "title",
    "type",
    "uniqueItems",
    "contentEncoding",
    "contentMediaType",
];

/// The schema that a reference leads to.
pub(super) fn resolve<'document>(document: &'document Value, schema: &'document Value) -> &'document Value {
    let mut schema = schema;
    for _ in 0..MAX_DEPTH {
        let Some(pointer) = schema["$ref"].as_str() else { break };
        schema = document.pointer(pointer.trim_start_matches('#')).unwrap_or(&Value::Null);
    }
    schema
}

/// How `value` violates `schema`; empty where it does not.
pub(super) fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Checker { document }.check(schema, value, "", &mut found);
    found.truncate(MAX_VIOLATIONS);
    found
}

struct Checker<'document> {
    document: &'document Value,
}

impl<'document> Checker<'document> {
    fn check(&self, schema: &'document Value, value: &Value, at: &str, found: &mut Vec<String>) {
        let schema = resolve(self.document, schema);
        let Some(keywords) = schema.as_object() else {
            found.push(format!("`{at}`: the schema is {schema}"));
            return;
        };
        if let Some(unknown) = keywords.keys().find(|keyword| !KNOWN.contains(&keyword.as_str())) {
            found.push(format!("`{at}`: the keyword `{unknown}` is not supported"));
        }
        if !has_type(&schema["type"], value) {
            found.push(format!("`{at}`: expected {}, got {}", schema["type"], shortened(value)));
            return;
        }
        if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
            found.push(format!("`{at}`: expected one of {}, got {}", schema["enum"], shortened(value)));
        }
        if schema.get("const").is_some_and(|expected| expected != value) {
            found.push(format!("`{at}`: expected {}, got {}", schema["const"], shortened(value)));
        }
        if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
            && number < least
        {
            found.push(format!("`{at}`: {number} is below {least}"));
        }
        for key in ["oneOf", "anyOf"] {
            let Some(parts) = schema[key].as_array() else { continue };
            let attempts: Vec<Vec<String>> = parts.iter().map(|part| self.attempt(part, value, at)).collect();
            if !attempts.iter().any(Vec::is_empty) {
                let nearest = attempts.into_iter().min_by_key(Vec::len).unwrap_or_default();
                found.push(format!("`{at}`: fits none of {key}: {}", nearest.join("; ")));
            }
        }
        match value {
            Value::Object(fields) => self.check_object(schema, fields, at, found),
            Value::Array(items) => {
                if let Some(schema) = schema.get("items").filter(|items| items.is_object()) {
                    for (index, item) in items.iter().enumerate() {
                        self.check(schema, item, &format!("{at}[{index}]"), found);
                    }
                }
            }
            _ => {}
        }
    }

    fn attempt(&self, schema: &'document Value, value: &Value, at: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.check(schema, value, at, &mut found);
        found
    }

    fn check_object(
        &self,
        schema: &'document Value,
        fields: &Map<String, Value>,
        at: &str,
        found: &mut Vec<String>,
    ) {
        let mut properties = Map::new();
        let mut free = None;
        self.gather(schema, fields, at, &mut properties, &mut free, found);
        let composed = schema.get("oneOf").or(schema.get("anyOf")).is_some();
        let describes = !properties.is_empty() || free.is_some();
        for (name, value) in fields {
            let inner = format!("{at}.{name}");
            match properties.get(name) {
                Some(schema) => {
                    for violation in violations(self.document, schema, value) {
                        found.push(violation.replacen('`', &format!("`{inner}"), 1));
                    }
                }
                None if composed || free.is_some_and(Value::is_boolean) => {}
                None => match free {
                    Some(schema) => self.check(schema, value, &inner, found),
                    // `{}` and `{"type": "object"}` alone are any JSON by intent; the document's own test
                    // lists those.
                    None if describes => found.push(format!("`{inner}` is not documented")),
                    None => {}
                },
            }
        }
    }

    /// Properties of a schema and of those that it is composed of; missing required ones are violations.
    fn gather(
        &self,
        schema: &'document Value,
        fields: &Map<String, Value>,
        at: &str,
        properties: &mut Map<String, Value>,
        free: &mut Option<&'document Value>,
        found: &mut Vec<String>,
    ) {
        let schema = resolve(self.document, schema);
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                found.push(format!("`{at}.{name}` is missing"));
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            properties.insert(name.clone(), property.clone());
        }
        if let Some(additional) =
            schema.get("additionalProperties").filter(|more| **more != Value::Bool(false))
        {
            *free = Some(additional);
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.gather(part, fields, at, properties, free, found);
        }
    }
}

fn has_type(kinds: &Value, value: &Value) -> bool {
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    match kinds {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn violations_are_named_by_their_place() {
        let document = json!({"components": {"schemas": {
            "Job": {"type": "object", "required": ["id"], "properties": {
                "id": {"type": "string"}, "at": {"type": ["integer", "null"], "minimum": 0},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                "inner": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Job"}]}}},
            "More": {"allOf": [{"$ref": "#/components/schemas/Job"},
                {"type": "object", "required": ["b"], "properties": {"b": {"type": "boolean"}}}]}}}});
        let of = |name: &str, value: Value| {
            let schema = json!({"$ref": format!("#/components/schemas/{name}")});
            violations(&document, &schema, &value)
        };
        assert_eq!(
            of("Job", json!({"id": "a", "at": null, "tags": {"x": "y"}, "inner": {"id": "b"}})),
            [""; 0]
        );
        assert_eq!(of("Job", json!({})), ["`.id` is missing"]);
        assert_eq!(of("Job", json!({"id": "a", "more": 1})), ["`.more` is not documented"]);
        assert_eq!(
            of("Job", json!({"id": "a", "tags": {"x": 1}})),
            ["`.tags.x`: expected \"string\", got 1"]
        );
        assert_eq!(of("Job", json!({"id": "a", "at": -1})), ["`.at`: -1 is below 0"]);
        assert!(of("Job", json!({"id": "a", "inner": {"x": 1}}))[0].contains("fits none of oneOf"));
        assert_eq!(of("More", json!({"id": "a", "b": true})), [""; 0]);
        assert_eq!(of("More", json!({"id": "a", "c": true})), ["`.b` is missing", "`.c` is not documented"]);
    }
}
