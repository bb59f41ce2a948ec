//! Names of registered models on logged models: a caller sees those of models that it may read.
//!
//! Versions made from a logged model stand in its `registrations` and in the tag `mlflow.modelVersions`, a
//! JSON list that MLflow's client reads, extends and writes back.

use serde_json::Value;
use slipway_domain::access::Visible;
use slipway_domain::registry::filter::{Clause, Key, Order};

use super::error::Failure;
use crate::access::caller::Caller;
use crate::store::Pair;
use crate::store::tags::{VERSIONS_TAG, versions_text};

/// Whether the caller may not read every registered model.
fn is_restricted(caller: &Caller) -> bool {
    caller.grants.visible_models() != Visible::All
}

/// The entries of the tag; `None` for a text that is no list.
fn entries(text: &str) -> Option<Vec<Value>> {
    serde_json::from_str(text).ok()
}

fn is_visible(caller: &Caller, entry: &Value) -> bool {
    entry.get("name").and_then(Value::as_str).is_none_or(|name| caller.sees_model(name))
}

/// Tags of a logged model as the caller sees them.
pub(super) fn visible_tags(caller: &Caller, tags: &[Pair]) -> Vec<Pair> {
    if !is_restricted(caller) {
        return tags.to_vec();
    }
    let shown = |(key, value): &Pair| {
        let entries = if key == VERSIONS_TAG { entries(value) } else { None };
        let Some(mut entries) = entries else { return Some((key.clone(), value.clone())) };
        entries.retain(|entry| is_visible(caller, entry));
        (!entries.is_empty()).then(|| (key.clone(), versions_text(&entries)))
    };
    tags.iter().filter_map(shown).collect()
}

/// Tags as the caller sets them; entries that it cannot see stay.
pub(super) fn merged_tags(caller: &Caller, before: &[Pair], mut set: Vec<Pair>) -> Vec<Pair> {
    let hidden = before.iter().filter(|(key, _)| key == VERSIONS_TAG).filter_map(|(_, text)| entries(text));
    let hidden: Vec<Value> = hidden.flatten().filter(|entry| !is_visible(caller, entry)).collect();
    for (_, value) in set.iter_mut().filter(|(key, _)| key == VERSIONS_TAG) {
        if let Some(mut entries) = entries(value).filter(|_| !hidden.is_empty()) {
            entries.splice(0..0, hidden.iter().cloned());
            *value = versions_text(&entries);
        }
    }
    set
}

/// Refuses a search that asks for what the caller may not see: its result would tell the names one by one.
///
/// # Errors
/// A filter or an order is about the tag, and the caller may not read every registered model.
pub(super) fn refuse_search(caller: &Caller, clauses: &[Clause], orders: &[Order]) -> Result<(), Failure> {
    let is_about = |key: &Key| matches!(key, Key::Tag(tag) if tag == VERSIONS_TAG);
    let asked =
        clauses.iter().any(|clause| is_about(&clause.key)) || orders.iter().any(|order| is_about(&order.key));
    if asked && is_restricted(caller) {
        return Err(Failure::denied(format!(
            "'{}': the role viewer is needed on every registered model to search by the tag {VERSIONS_TAG}",
            caller.actor.principal
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use slipway_domain::access::{Grants, Role, Scope};

    use super::*;

    fn tag(text: &str) -> Vec<Pair> {
        vec![(VERSIONS_TAG.to_owned(), text.to_owned())]
    }

    #[test]
    fn names_of_other_models_are_neither_shown_nor_lost() {
        let grants: Grants = [(Scope::Model("ours".into()), Role::Viewer)].into_iter().collect();
        let caller = Caller { grants: Arc::new(grants), ..Caller::unknown() };
        let all = r#"[{"name":"ours","version":1},{"name":"theirs","version":2}]"#;
        assert_eq!(visible_tags(&caller, &tag(all)), tag(r#"[{"name": "ours", "version": 1}]"#));
        assert_eq!(visible_tags(&caller, &tag(r#"[{"name":"theirs","version":2}]"#)), []);
        assert_eq!(visible_tags(&caller, &tag("no list")), tag("no list"));
        let set = merged_tags(&caller, &tag(all), tag(r#"[{"name":"ours","version":3}]"#));
        assert_eq!(set, tag(r#"[{"name": "theirs", "version": 2}, {"name": "ours", "version": 3}]"#));
        let full = Caller { grants: Arc::new(Grants::full()), ..Caller::unknown() };
        assert_eq!(visible_tags(&full, &tag(all)), tag(all));
    }
}
