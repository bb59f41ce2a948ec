//! Reading MLflow's messages: absent fields count as empty, 64-bit integers may be text.

use serde_json::{Value, json};

/// Text at a JSON pointer; empty where absent.
pub(crate) fn text<'value>(value: &'value Value, pointer: &str) -> &'value str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// An integer at a JSON pointer, also as text.
pub(crate) fn integer(value: &Value, pointer: &str) -> Option<i64> {
    match value.pointer(pointer)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A list at a JSON pointer; empty where absent.
pub(crate) fn list<'value>(value: &'value Value, pointer: &str) -> &'value [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The value of the pair with this key in a list of `{key, value}`.
pub(crate) fn pair<'value>(pairs: &'value [Value], key: &str) -> Option<&'value str> {
    pairs.iter().find(|pair| text(pair, "/key") == key).map(|pair| text(pair, "/value"))
}

/// One `{key, value}`.
pub(crate) fn key_value(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value})
}

/// An object of the fields that are set.
pub(crate) fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The token of the next page, if there is one.
pub(crate) fn next_page(answer: &Value) -> Option<String> {
    Some(text(answer, "/next_page_token")).filter(|token| !token.is_empty()).map(str::to_owned)
}
