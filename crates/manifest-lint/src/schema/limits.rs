//! Enums, limits and patterns.

use regex_lite::Regex;
use serde_json::Value as Json;

use crate::yaml::{Node, Value};

/// What is broken, each with what was expected.
pub(super) fn broken(node: &Node, schema: &Json) -> Vec<String> {
    let mut broken: Vec<String> = allowed(node, schema).into_iter().collect();
    match &node.value {
        Value::String(text) => {
            let length = text.chars().count();
            broken.extend(size(schema, "minLength", "maxLength", length, "characters"));
            broken.extend(pattern(text, schema));
        }
        Value::Number(number, _) => broken.extend(range(node, *number, schema)),
        Value::List(items) => broken.extend(size(schema, "minItems", "maxItems", items.len(), "items")),
        Value::Map(entries) => {
            broken.extend(size(schema, "minProperties", "maxProperties", entries.len(), "fields"));
        }
        Value::Null | Value::Bool(_) => {}
    }
    broken
}

fn allowed(node: &Node, schema: &Json) -> Option<String> {
    let values = schema["enum"].as_array()?;
    let is_it = |value: &Json| match (&node.value, value) {
        (Value::String(text), Json::String(value)) => text == value,
        (Value::Number(number, _), Json::Number(value)) => value.as_f64() == Some(*number),
        (Value::Bool(found), Json::Bool(value)) => found == value,
        _ => false,
    };
    if values.iter().any(is_it) {
        return None;
    }
    let shown = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let values: Vec<String> = values.iter().map(shown).collect();
    let listed = match values.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    };
    Some(format!("expected {listed}, got {}", node.shown()))
}

fn size(schema: &Json, least: &str, most: &str, found: usize, unit: &str) -> Option<String> {
    let limit = |name: &str| schema[name].as_u64().and_then(|limit| usize::try_from(limit).ok());
    match (limit(least), limit(most)) {
        (Some(least), _) if found < least => Some(format!("expected at least {least} {unit}, got {found}")),
        (_, Some(most)) if found > most => Some(format!("expected at most {most} {unit}, got {found}")),
        _ => None,
    }
}

fn range(node: &Node, number: f64, schema: &Json) -> Option<String> {
    let (least, most) = match schema["format"].as_str() {
        Some("int32") => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    };
    let least = schema["minimum"].as_f64().unwrap_or(least);
    let most = schema["maximum"].as_f64().unwrap_or(most);
    if number < least || (number <= least && schema["exclusiveMinimum"] == true) {
        return Some(format!("expected at least {least}, got {}", node.shown()));
    }
    let too_much = number > most || (number >= most && schema["exclusiveMaximum"] == true);
    too_much.then(|| format!("expected at most {most}, got {}", node.shown()))
}

fn pattern(text: &str, schema: &Json) -> Option<String> {
    let pattern = schema["pattern"].as_str()?;
    // A pattern that this engine does not understand refuses nothing.
    let matches = Regex::new(pattern).ok()?.is_match(text);
    (!matches).then(|| format!("expected a string that matches {pattern}, got {text:?}"))
}
