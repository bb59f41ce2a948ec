//! JSON as clients send it: structs come as objects, and what does not fit is told with the field's path.

mod nul;
mod objects;

pub use self::nul::{NUL_REFUSED, nul_in, nul_in_json};
use serde::Deserialize;
use serde_json::Deserializer;
use serde_json::error::Category;

use self::objects::Objects;
use crate::text::shortened;

/// Longest path of a field that a message names.
const MAX_PATH_CHARS: usize = 200;
/// Longest message: a value that does not fit is repeated in part.
const MAX_MESSAGE_CHARS: usize = 300;
/// How much of the end of a long message stays: what was expected, and where.
const MESSAGE_END_CHARS: usize = 160;

/// Why JSON could not be read. Its text is bounded, however long the JSON is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct JsonError {
    /// Path of the field at fault, e.g. `inputs[0].shape[1]`; none where it is the whole or no JSON at all.
    pub field: Option<String>,
    /// What was found, what was expected, and in which line and column.
    pub message: String,
    /// Whether it is JSON, and only does not fit.
    pub is_json: bool,
}

impl JsonError {
    fn text(&self) -> String {
        match &self.field {
            Some(field) => format!("`{field}`: {}", self.message),
            None => self.message.clone(),
        }
    }
}

/// Reads JSON. The path of what is at fault is looked for only where something is: good JSON is read as quickly as without.
///
/// # Errors
/// It is no JSON, or does not fit: a struct is an object, never an array of its fields.
pub fn read<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, JsonError> {
    read_quickly(json).map_err(|error| explain::<T>(json, &error))
}

/// Reads JSON as [`read`] does, without finding out what is at fault; see [`explain`].
///
/// # Errors
/// It is no JSON, or does not fit.
pub fn read_quickly<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    let mut deserializer = Deserializer::from_slice(json);
    let value = T::deserialize(Objects(&mut deserializer))?;
    deserializer.end().map(|()| value)
}

/// Reads once more what [`read_quickly`] refused with `error`, and says which field is at fault.
pub fn explain<'de, T: Deserialize<'de>>(json: &'de [u8], error: &serde_json::Error) -> JsonError {
    if error.classify() != Category::Data {
        return JsonError { field: None, message: bounded(error.to_string()), is_json: false };
    }
    let mut deserializer = Deserializer::from_slice(json);
    let field = serde_path_to_error::deserialize::<_, T>(Objects(&mut deserializer))
        .err()
        .map(|error| error.path().to_string())
        .filter(|path| path != ".");
    let message = error.to_string();
    // Of a field that is missing the path names only the parent.
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let field = match (field, missing) {
        (Some(parent), Some(field)) => Some(format!("{parent}.{field}")),
        (None, Some(field)) => Some(field.to_owned()),
        (field, None) => field,
    };
    let field = field.map(|path| shortened(path, MAX_PATH_CHARS, MAX_PATH_CHARS / 2));
    JsonError { field, message: bounded(in_plain_words(&message)), is_json: true }
}

/// Types of the code, as people who write JSON call them.
const PLAIN_WORDS: [(&str, &[&str]); 5] = [
    ("a whole number", &["i8", "i16", "i32", "i64", "isize"]),
    ("a whole number, not negative", &["u8", "u16", "u32", "u64", "usize"]),
    ("a number", &["f32", "f64"]),
    ("an array", &["a sequence"]),
    ("an object", &["a map"]),
];

/// A type of the code, e.g. `u32`, as JSON names it.
pub(crate) fn in_json_terms(expected: &str) -> &str {
    let plain = PLAIN_WORDS.into_iter().find(|(_, types)| types.contains(&expected));
    plain.map_or(expected, |(words, _)| words)
}

/// A message in words of JSON: `expected struct NewToken` says nothing to a client.
fn in_plain_words(message: &str) -> String {
    const EXPECTED: &str = ", expected ";
    // The value that was found comes first, and may have any text in it.
    let Some((found, rest)) = message.rsplit_once(EXPECTED) else { return message.to_owned() };
    let (expected, place) = rest.split_once(" at line ").unwrap_or((rest, ""));
    let plain = PLAIN_WORDS.into_iter().find(|(_, types)| types.contains(&expected)).map(|(words, _)| words);
    let plain = plain.or_else(|| {
        (expected.starts_with("struct ") || expected.starts_with("internally tagged enum "))
            .then_some("an object")
    });
    let expected = plain.unwrap_or(expected);
    let found = match found.strip_prefix("invalid type: ") {
        Some("map") => "invalid type: object",
        Some("sequence") => "invalid type: array",
        _ => found,
    };
    let at = if place.is_empty() { "" } else { " at line " };
    format!("{found}{EXPECTED}{expected}{at}{place}")
}

fn bounded(message: String) -> String {
    shortened(message, MAX_MESSAGE_CHARS, MESSAGE_END_CHARS)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer<'json> {
        name: Option<String>,
        #[serde(borrow)]
        inner: Option<Vec<Inner<'json>>>,
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner<'json> {
        #[serde(borrow)]
        raw: &'json RawValue,
        shape: [i64; 2],
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only parsed")]
    enum Kind {
        Plain,
        Pair(u8, u8),
        Named { weight: u8 },
    }

    fn refused(json: &str) -> String {
        read::<Outer<'_>>(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_fits_is_read() {
        let outer = r#"{"name": "a", "more": [1], "inner": [{"raw": [1, {}], "shape": [1, 2]}], "kind": {"named": {"weight": 1}}} "#;
        let read_one = read::<Outer<'_>>(outer.as_bytes()).unwrap();
        assert_eq!(read_one.inner.unwrap()[0].raw.get(), "[1, {}]");
        assert!(read::<Outer<'_>>(br#"{"kind": {"pair": [1, 2]}}"#).is_ok());
        assert!(read::<Outer<'_>>(br#"{"kind": "plain", "inner": null}"#).is_ok());
    }

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        assert_eq!(refused(r#"["a", []]"#), "invalid type: array, expected an object at line 1 column 0");
        let inner = refused(r#"{"inner": [{"raw": 1, "shape": [1, 2]}, [1, [1, 2]]]}"#);
        assert!(inner.starts_with("`inner[1]`: invalid type: array, expected an object"), "{inner}");
        let variant = refused(r#"{"kind": {"named": [1]}}"#);
        assert!(variant.starts_with("`kind.named`: invalid type: array"), "{variant}");
    }

    #[test]
    fn a_refusal_names_the_field_and_the_place() {
        assert_eq!(
            refused("{\"inner\": [{\"raw\": 1,\n\"shape\": [1, \"x\"]}]}"),
            "`inner[0].shape[1]`: invalid type: string \"x\", expected a whole number at line 2 column 16"
        );
        assert!(refused(r#"{"inner": [{"raw": 1}]}"#).starts_with("`inner[0].shape`: missing field"));
        assert!(refused(r#"{"inner": {}}"#).contains("`inner`: invalid type: object, expected an array"));
        assert!(
            refused(r#"{"kind": {"named": {"weight": -1}}}"#)
                .contains("expected a whole number, not negative")
        );
        let garbage = read::<Outer<'_>>(b"{} {}").unwrap_err();
        assert_eq!((garbage.field, garbage.is_json), (None, false));
        assert_eq!(garbage.message, "trailing characters at line 1 column 4");
    }

    #[test]
    fn a_refusal_stays_short() {
        let long =
            format!(r#"{{"kind": {{"named": {{"weight": "{}"}}}}}}"#, "ä, expected ".repeat(1_000_000));
        let message = refused(&long);
        assert!(message.starts_with("`kind.named.weight`: invalid type: string \"ä, "), "{message}");
        assert!(message.contains("expected a whole number, not negative at line 1"), "{message}");
        assert!(message.chars().count() < MAX_MESSAGE_CHARS + MAX_PATH_CHARS);
        let key = format!(r#"{{"kind": {{"{}": 1}}}}"#, "k".repeat(1_000_000));
        assert!(refused(&key).chars().count() < MAX_MESSAGE_CHARS + MAX_PATH_CHARS);
        assert!(read::<Outer<'_>>("[".repeat(1_000_000).as_bytes()).is_err());
        let deep = read::<serde_json::Value>("[".repeat(1_000_000).as_bytes()).unwrap_err();
        assert!(deep.message.starts_with("recursion limit exceeded"));
    }
}
