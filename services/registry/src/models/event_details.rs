//! Details of events about something new.

use serde_json::{Map, Value};

/// Texts of a description and of tags that one event carries at most, bytes; NATS rejects a message of more
/// than 1 MiB.
const MAX_TEXT_BYTES: usize = 128 * 1024;

/// Adds texts and tags of something new to an event's details. What would make the event longer than it may
/// be is left out.
pub(crate) fn with_texts(
    mut details: Value,
    texts: &[(&str, Option<&str>)],
    tags: &[(String, String)],
) -> Value {
    let mut room = MAX_TEXT_BYTES;
    let mut fits = |bytes: usize| {
        let left = room.checked_sub(bytes);
        room = left.unwrap_or(room);
        left.is_some()
    };
    for (name, text) in texts {
        details[*name] = text.filter(|text| fits(text.len())).into();
    }
    let tags: Map<String, Value> = tags
        .iter()
        .filter(|(key, value)| fits(key.len() + value.len()))
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    details["tags"] = tags.into();
    details
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_text_or_tag_does_not_make_the_event_too_long() {
        let long = "x".repeat(MAX_TEXT_BYTES);
        let tags = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), long.clone())];
        let with = |text: &str, tags: &[(String, String)]| {
            with_texts(json!({"model": "churn"}), &[("source", Some(text)), ("description", None)], tags)
        };
        let told = |source: &Value, tags: Value| {
            json!({"model": "churn", "source": source,
            "description": null, "tags": tags})
        };
        assert_eq!(with("short", &tags), told(&json!("short"), json!({"a": "1"})));
        assert_eq!(with(&long, &tags), told(&json!(long), json!({})));
        assert_eq!(with(&format!("{long}x"), &tags), told(&Value::Null, json!({"a": "1"})));
    }
}
