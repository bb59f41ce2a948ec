//! Holds events to the schemas that are published: the part of JSON Schema that these use.

use serde_json::Value;
use slipway_api::events::asyncapi;
use slipway_api::events::catalog;
use slipway_event_bus::Received;

/// The event is known, its body fits, and its details are all described.
pub(crate) fn check(event: &Received) {
    let entry = catalog::find(&event.subject);
    assert!(entry.is_some(), "{} is in no catalog", event.subject);
    let body: Value = serde_json::from_slice(&event.data).unwrap();
    let wrong = fits(&asyncapi::document(), &entry.unwrap().data, &body, "");
    assert!(wrong.is_none(), "{}: {}: {body}", event.subject, wrong.unwrap_or_default());
}

/// What is wrong with a value, and where.
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(path) = schema["$ref"].as_str() {
        return fits(document, document.pointer(path.trim_start_matches('#')).unwrap(), value, at);
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Some(format!("{at} is not {}", schema["const"]));
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is(value, kind)) {
        return Some(format!("{at} is no {kinds:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            return Some(format!("{at}.{name} is missing"));
        }
    }
    if let (Some(fields), Some(values)) = (schema["properties"].as_object(), value.as_object()) {
        for (name, value) in values {
            let Some(schema) = fields.get(name) else { return Some(format!("{at}.{name} is not described")) };
            if let Some(wrong) = fits(document, schema, value, &format!("{at}.{name}")) {
                return Some(wrong);
            }
        }
    }
    let items = schema.get("items").zip(value.as_array());
    items.and_then(|(schema, values)| {
        values.iter().find_map(|value| fits(document, schema, value, &format!("{at}[]")))
    })
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => value.is_null(),
    }
}
