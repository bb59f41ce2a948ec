//! The NUL character in texts: valid JSON, but Postgres cannot store it.

use serde_json::Value;

/// How JSON writes NUL. A literal NUL byte is not valid JSON.
const ESCAPED: &[u8] = b"\\u0000";

/// Error for a field.
pub const NUL_REFUSED: &str = "text must not contain the NUL character (U+0000)";

/// Path of the first text (or name of a field) in a JSON document that contains NUL, e.g. `tags[3].value`;
/// `None` where none does. A document without the escape sequence costs one pass over its bytes.
pub fn nul_in_json(json: &[u8]) -> Option<String> {
    if !json.windows(ESCAPED.len()).any(|window| window == ESCAPED) {
        return None;
    }
    serde_json::from_slice(json).ok().and_then(|value: Value| nul_in(&value, ""))
}

/// The same for a value that was read, which is at `path`.
pub fn nul_in(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::String(text) if text.contains('\0') => {
            Some(if path.is_empty() { "body".to_owned() } else { path.to_owned() })
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| nul_in(item, &format!("{path}[{at}]")))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, field)| {
            let shown = name.replace('\0', "\\u0000");
            let path = if path.is_empty() { shown } else { format!("{path}.{shown}") };
            if name.contains('\0') { Some(path) } else { nul_in(field, &path) }
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_with_the_nul_character_is_named() {
        let found = |json: &str| nul_in_json(json.as_bytes());
        assert_eq!(
            found(r#"{"tags": [{"value": "a"}, {"value": "b\u0000"}]}"#).as_deref(),
            Some("tags[1].value")
        );
        assert_eq!(found(r#"{"a\u0000": 1}"#).as_deref(), Some("a\\u0000"));
        assert_eq!(found(r#""\u0000""#).as_deref(), Some("body"));
        assert_eq!(found(r#"{"path": "C:\\u0000"}"#), None, "a backslash and five characters");
        assert_eq!(found(r#"{"fine": "text"}"#), None);
    }
}
