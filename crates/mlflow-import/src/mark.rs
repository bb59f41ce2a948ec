//! Marks of what was imported: from where, and in which state it was there.
//!
//! Both are tags. The source goes on with the creation and says whose it is; the digest goes on last and says
//! that nothing is missing. As it is a digest of the state at the source, something that changed there is
//! copied again, and something that changed here is left alone.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::json::{key_value, list, pair, text};

/// `<address>#<id>` of what a thing was copied from.
pub(crate) const SOURCE_TAG: &str = "slipway.import.source";
/// Digest of the state it was copied in; absent until it is complete.
pub(crate) const DIGEST_TAG: &str = "slipway.import.digest";
/// Tags of this family are never copied.
const FAMILY: &str = "slipway.import.";
/// The registry writes it by itself as versions come in.
const VERSIONS_TAG: &str = "mlflow.modelVersions";
/// What follows the digest where the files are complete as well.
const WITH_ARTIFACTS: &str = "+artifacts";
/// What follows the digest where the records are complete, and what refers to logged models and the files are
/// not.
const RECORDS_ALONE: &str = "+records";
const DIGEST_BYTES: usize = 16;

/// What the registry has of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// As the source has it.
    Complete,
    /// An import began it, or the source has changed since.
    Partial,
    /// It has the name or the id, but no import made it.
    Foreign,
}

/// Reads the state off the registry's tags.
pub(crate) fn state(tags: &[Value], id: &str, digest: &str) -> State {
    // From the end, as a model's name may hold the sign itself.
    let of_this = |source: &str| source.strip_suffix(id).is_some_and(|address| address.ends_with('#'));
    if !pair(tags, SOURCE_TAG).is_some_and(of_this) {
        return State::Foreign;
    }
    if pair(tags, DIGEST_TAG).is_some_and(|marked| covers(marked, digest)) {
        State::Complete
    } else {
        State::Partial
    }
}

/// Whether a digest in a tag says that all that is wanted is there.
pub(crate) fn covers(marked: &str, digest: &str) -> bool {
    marked == digest || marked.strip_suffix(WITH_ARTIFACTS) == Some(digest)
}

/// The digest of a thing together with its files.
pub(crate) fn with_artifacts(digest: &str) -> String {
    format!("{digest}{WITH_ARTIFACTS}")
}

/// The digest of a thing whose records are complete and whose rest is not.
pub(crate) fn records_alone(digest: &str) -> String {
    format!("{digest}{RECORDS_ALONE}")
}

/// The tag that says where something comes from.
pub(crate) fn source(address: &str, id: &str) -> Value {
    key_value(SOURCE_TAG, &format!("{address}#{id}"))
}

/// The tag that says that something is complete.
pub(crate) fn complete(digest: &str) -> Value {
    key_value(DIGEST_TAG, digest)
}

/// The tags to copy: all but those that an import or the registry writes by itself.
pub(crate) fn copied_tags(value: &Value, pointer: &str) -> Vec<Value> {
    let own = |tag: &&Value| {
        let key = text(tag, "/key");
        key.starts_with(FAMILY) || key == VERSIONS_TAG
    };
    list(value, pointer)
        .iter()
        .filter(|tag| !own(tag))
        .map(|tag| key_value(text(tag, "/key"), text(tag, "/value")))
        .collect()
}

/// Digest of the named fields of a message and of its tags, whatever order its lists come in.
pub(crate) fn digest(value: &Value, fields: &[&str], tags: &str) -> String {
    let mut parts: Vec<Value> =
        fields.iter().map(|pointer| sorted(value.pointer(pointer).unwrap_or(&Value::Null))).collect();
    parts.push(sorted(&Value::Array(copied_tags(value, tags))));
    hex::encode(&Sha256::digest(json!(parts).to_string())[..DIGEST_BYTES])
}

fn sorted(value: &Value) -> Value {
    let Value::Array(items) = value else { return value.clone() };
    let mut items = items.clone();
    items.sort_by_cached_key(Value::to_string);
    Value::Array(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(digest: &str) -> Vec<Value> {
        vec![source("http://old", "abc"), complete(digest)]
    }

    #[test]
    fn complete_means_the_same_thing_in_the_same_state() {
        assert_eq!(state(&tags("d"), "abc", "d"), State::Complete);
        assert_eq!(state(&tags("d+artifacts"), "abc", "d"), State::Complete);
        // Files are wanted now, and were not then.
        assert_eq!(state(&tags("d"), "abc", &with_artifacts("d")), State::Partial);
        assert_eq!(state(&tags("e"), "abc", "d"), State::Partial);
        assert_eq!(state(&[source("http://old", "abc")], "abc", "d"), State::Partial);
        assert_eq!(state(&tags("d"), "other", "d"), State::Foreign);
        assert_eq!(state(&[], "abc", "d"), State::Foreign);
    }

    #[test]
    fn the_digest_sees_changes_and_no_order() {
        let run = |status: &str, tags: Value| json!({"info": {"status": status}, "data": {"tags": tags}});
        let of = |run: &Value| digest(run, &["/info/status"], "/data/tags");
        let (a, b) = (json!({"key": "a", "value": "1"}), json!({"key": "b", "value": "2"}));
        let first = of(&run("FINISHED", json!([a, b])));
        assert_eq!(first.len(), 32);
        assert_eq!(first, of(&run("FINISHED", json!([b, a]))));
        assert_eq!(first, of(&run("FINISHED", json!([b, a, complete("x")]))));
        assert_ne!(first, of(&run("FAILED", json!([a, b]))));
        assert_ne!(first, of(&run("FINISHED", json!([a]))));
    }
}
