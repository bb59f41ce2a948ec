//! A part of a document as rules see it: with the defaults of its schema.

use serde_json::{Map, Number, Value as Json};

use crate::yaml::{Node, Value};

pub(super) fn with_defaults(node: &Node, schema: &Json) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number, text) => number_of(*number, text),
        Value::String(text) => Json::String(text.clone()),
        Value::List(items) => {
            Json::Array(items.iter().map(|item| with_defaults(item, &schema["items"])).collect())
        }
        Value::Map(entries) => {
            let properties = &schema["properties"];
            let mut fields = Map::new();
            for entry in entries {
                let schema = properties.get(&entry.name).unwrap_or(&schema["additionalProperties"]);
                // Fields without a value are left out before rules are evaluated.
                let value = with_defaults(&entry.node, schema);
                if !value.is_null() {
                    fields.insert(entry.name.clone(), value);
                }
            }
            for (name, schema) in properties.as_object().into_iter().flatten() {
                if let (None, Some(default)) = (fields.get(name), schema.get("default")) {
                    fields.insert(name.clone(), default.clone());
                }
            }
            Json::Object(fields)
        }
    }
}

fn number_of(number: f64, text: &str) -> Json {
    match text.parse::<i64>() {
        Ok(integer) => integer.into(),
        Err(_) => Number::from_f64(number).map_or(Json::Null, Json::Number),
    }
}
