//! A structural schema of Kubernetes (OpenAPI v3), applied to a document.

mod defaults;
mod limits;
mod names;

use serde_json::Value as Json;

use crate::cel;
use crate::yaml::{Entry, Node, Value};
use crate::{Finding, Position, Report};
pub(crate) use names::nearest;

const RULES: &str = "x-kubernetes-validations";
/// Fields of every object that its schema need not list.
const OF_OBJECTS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Checks a document.
pub(crate) fn check(document: &Node, schema: &Json, report: &mut Report) {
    let mut checker = Checker { report, rules: Vec::new() };
    checker.node(document, schema, "");
    let rules = std::mem::take(&mut checker.rules);
    // Rules assume the types of the schema, so they follow once these are right.
    if report.errors.is_empty() {
        rules.iter().for_each(|rule| rule.check(report));
    }
}

/// The rules of a part.
struct Rules<'node> {
    node: &'node Node,
    schema: &'node Json,
    path: String,
}

impl Rules<'_> {
    fn check(&self, report: &mut Report) {
        let value = defaults::with_defaults(self.node, self.schema);
        for rule in self.schema[RULES].as_array().into_iter().flatten() {
            let text = rule["rule"].as_str().unwrap_or_default();
            let finding =
                |message: String| Finding { position: self.node.position, path: self.path.clone(), message };
            match cel::holds(text, &value) {
                Ok(cel::Outcome::Holds | cel::Outcome::NeedsOldSelf) => {}
                Ok(cel::Outcome::Fails) => {
                    let stated = rule["message"].as_str().map(str::to_owned);
                    report.errors.push(finding(stated.unwrap_or_else(|| format!("failed rule: {text}"))));
                }
                Err(why) => report.notes.push(finding(format!("rule not evaluated ({why}): {text}"))),
            }
        }
    }
}

struct Checker<'node, 'report> {
    report: &'report mut Report,
    rules: Vec<Rules<'node>>,
}

/// Path of a field; names that are no identifiers stand in brackets.
fn inner(path: &str, name: &str) -> String {
    let plain = name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '_');
    match (path.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{name:?}]"),
    }
}

impl<'node> Checker<'node, '_> {
    fn refuse(&mut self, position: Position, path: &str, message: String) {
        self.report.errors.push(Finding { position, path: path.to_owned(), message });
    }

    fn node(&mut self, node: &'node Node, schema: &'node Json, path: &str) {
        if let Some(expected) = other_type(node, schema) {
            return self.refuse(node.position, path, format!("expected {expected}, got {}", node.shown()));
        }
        if matches!(node.value, Value::Null) {
            return;
        }
        for message in limits::broken(node, schema) {
            self.refuse(node.position, path, message);
        }
        if let Some(alternatives) = schema["anyOf"].as_array()
            && schema["x-kubernetes-int-or-string"] != true
            && !alternatives.iter().any(|alternative| matches(node, alternative))
        {
            self.refuse(node.position, path, format!("{} matches none of the alternatives", node.shown()));
        }
        match &node.value {
            Value::Map(entries) => self.fields(node, entries, schema, path),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.node(item, &schema["items"], &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
        if schema[RULES].is_array() {
            self.rules.push(Rules { node, schema, path: path.to_owned() });
        }
    }

    fn fields(&mut self, node: &'node Node, entries: &'node [Entry], schema: &'node Json, path: &str) {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            let has_default = schema["properties"][name].get("default").is_some();
            if node.get(name).is_none() && !has_default {
                self.refuse(node.position, &inner(path, name), "required, and is missing".to_owned());
            }
        }
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let keeps_others = schema["x-kubernetes-preserve-unknown-fields"] == true
            || schema["additionalProperties"] == true
            || (schema.get("properties").is_none() && others.is_none());
        for entry in entries {
            let path_of_it = inner(path, &entry.name);
            match schema["properties"].get(&entry.name).or(others) {
                _ if path.is_empty() && OF_OBJECTS.contains(&entry.name.as_str()) => {}
                Some(schema) => self.node(&entry.node, schema, &path_of_it),
                None if keeps_others => {}
                None => {
                    let known = schema["properties"].as_object().into_iter().flat_map(|known| known.keys());
                    let near = nearest(&entry.name, known.map(String::as_str));
                    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                    self.refuse(entry.position, &path_of_it, format!("unknown field{hint}"));
                }
            }
        }
    }
}

/// Whether a part is right by a schema alone.
fn matches(node: &Node, schema: &Json) -> bool {
    let mut report = Report::default();
    let mut checker = Checker { report: &mut report, rules: Vec::new() };
    checker.node(node, schema, "");
    report.errors.is_empty()
}

/// What was expected where the type is another one.
fn other_type(node: &Node, schema: &Json) -> Option<&'static str> {
    if schema["x-kubernetes-int-or-string"] == true {
        let fits = matches!(node.value, Value::String(_)) || is_integer(&node.value);
        return (!fits).then_some("an integer or a string");
    }
    let (fits, expected) = match (schema["type"].as_str(), &node.value) {
        // Left out before it is stored, where there is a default.
        (_, Value::Null) if schema["nullable"] == true || schema.get("default").is_some() => return None,
        (Some("object"), value) => (matches!(value, Value::Map(_)), "an object"),
        (Some("array"), value) => (matches!(value, Value::List(_)), "an array"),
        (Some("string"), value) => (matches!(value, Value::String(_)), "a string"),
        (Some("boolean"), value) => (matches!(value, Value::Bool(_)), "true or false"),
        (Some("integer"), value) => (is_integer(value), "an integer"),
        (Some("number"), value) => (matches!(value, Value::Number(..)), "a number"),
        _ => return None,
    };
    (!fits).then_some(expected)
}

fn is_integer(value: &Value) -> bool {
    matches!(value, Value::Number(number, _) if number.fract() == 0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::yaml::documents;

    fn errors(schema: &Json, text: &str) -> Vec<String> {
        let node = documents(text, &mut |_, message| panic!("{message}")).remove(0);
        let mut report = Report::default();
        check(&node, schema, &mut report);
        assert!(report.notes.is_empty(), "{:?}", report.notes);
        let line = |error: Finding| {
            format!("{}:{} {}: {}", error.position.line, error.position.column, error.path, error.message)
        };
        report.errors.into_iter().map(line).collect()
    }

    #[test]
    fn each_kind_of_mistake_has_its_place_and_what_was_expected() {
        let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {
        "type": "object", "required": ["name", "mode"], "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9, "format": "int32"},
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "list": {"type": "array", "maxItems": 1, "items": {"type": "boolean"}},
            "map": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }, "x-kubernetes-validations": [
            {"rule": "!has(self.count) || self.count != 7", "message": "count: not 7"},
            {"rule": "self.mode != 'b' || has(oldSelf.mode)"},
        ]}}});
        let spec = |fields: &str| errors(&schema, &format!("spec:\n  name: abc\n  {fields}\n"));
        assert_eq!(spec("free: {x: [1]}"), [""; 0]);
        for (fields, expected) in [
            ("nmae: x", "3:3 spec.nmae: unknown field; did you mean name?"),
            ("mode: c", "3:9 spec.mode: expected a or b, got string \"c\""),
            ("count: two", "3:10 spec.count: expected an integer, got string \"two\""),
            ("count: 1.5", "3:10 spec.count: expected an integer, got number 1.5"),
            ("count: 10", "3:10 spec.count: expected at most 9, got number 10"),
            ("count: 0", "3:10 spec.count: expected at least 1, got number 0"),
            ("count: 7", "2:3 spec: count: not 7"),
            ("port: [1]", "3:9 spec.port: expected an integer or a string, got an array"),
            ("list: [true, false]", "3:9 spec.list: expected at most 1 items, got 2"),
            ("list: [1]", "3:10 spec.list[0]: expected true or false, got number 1"),
            ("map: {a.b: 1}", "3:14 spec.map[\"a.b\"]: expected a string, got number 1"),
            ("map: {a: x, b: y}", "3:8 spec.map: expected at most 1 fields, got 2"),
            ("list:", "3:7 spec.list: expected an array, got null"),
        ] {
            assert_eq!(spec(fields), [expected], "{fields}");
        }
        assert_eq!(errors(&schema, "spec: {}"), ["1:7 spec.name: required, and is missing"]);
        assert_eq!(errors(&schema, "spec: {name: A}").len(), 2, "too short, and a capital letter");
    }
}
