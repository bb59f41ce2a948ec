//! Values of JSON and of query strings.

use serde_json::{Map, Value};

use crate::api::mlflow::error::{Failure, SEE_DOCS};

/// The text of a value that is no list and no object.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

pub(super) fn wrong_type(name: &str, value: &Value) -> Failure {
    // What MLflow's server, being Python, calls it.
    let kind = match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    };
    Failure::invalid(format!(
        "Invalid value {} for parameter '{name}' supplied:  Hint: Value was of type '{kind}'. {SEE_DOCS}",
        compact(value)
    ))
}

/// Longest value that an error repeats, characters.
const MAX_SHOWN_CHARS: usize = 500;

/// JSON as Python writes it without spaces: ASCII only. A long value is cut off.
pub(super) fn compact(value: &Value) -> String {
    use std::fmt::Write as _;
    let mut shown = String::new();
    for character in value.to_string().chars().take(MAX_SHOWN_CHARS) {
        if character.is_ascii() {
            shown.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

pub(super) fn whole(number: f64) -> Option<i64> {
    // Beyond 2^53 a float does not name one integer any more.
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

pub(super) fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or("").to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// Repeated keys become a list.
pub(super) fn query_fields(query: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(&query_uri(query))
        .map(|axum::extract::Query(pairs)| pairs)
        .unwrap_or_default();
    for (key, value) in pairs {
        match fields.get_mut(&key) {
            None => {
                fields.insert(key, Value::String(value));
            }
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => {
                let before = first.take();
                *first = Value::Array(vec![before, Value::String(value)]);
            }
        }
    }
    fields
}

fn query_uri(query: &str) -> http::Uri {
    format!("/?{query}").parse().unwrap_or_default()
}
