//! CustomResourceDefinitions of the cluster against those of this release.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Finding, Level};

/// Fields that a message lists.
const MAX_LISTED: usize = 3;

/// A definition of this release.
#[derive(Debug, Clone, Copy)]
pub struct Definition<'release> {
    /// Its name, e.g. `modeldeployments.slipway.dev`.
    pub name: &'release str,
    /// Its document.
    pub document: &'release Value,
    /// Whether the platform works without it.
    pub optional: bool,
}

/// What the cluster has of a definition; `None` if it has none.
pub fn definition(release: Definition<'_>, found: Option<&Value>) -> Finding {
    let check = format!("definition {}", release.name);
    let apply = "helm upgrade, or `kubectl apply --server-side -f deploy/kubernetes`";
    let Some(found) = found else {
        let missing = format!("right before an installation; otherwise {apply}");
        return Finding { check, ..Finding::of(release.optional, Level::Warn, "", "missing", missing) };
    };
    let established = found["status"]["conditions"].as_array().into_iter().flatten();
    if !established.clone().any(|one| one["type"] == "Established" && one["status"] == "True") {
        let why =
            established.filter_map(|one| one["message"].as_str()).next_back().unwrap_or("not established");
        return Finding::fail(check, why, "check `kubectl describe crd` for conflicting names");
    }
    let (ours, theirs) = (fields(release.document), fields(found));
    let listed = |fields: Vec<&String>| {
        let mut shown: Vec<&str> = fields.iter().take(MAX_LISTED).map(|field| field.as_str()).collect();
        if fields.len() > MAX_LISTED {
            shown.push("…");
        }
        shown.join(", ")
    };
    let missing: Vec<&String> = ours.difference(&theirs).collect();
    if !missing.is_empty() {
        let older = format!("of an older release: it lacks {}", listed(missing));
        return Finding::warn(check, older, format!("upgrade the definition before the services: {apply}"));
    }
    let unknown: Vec<&String> = theirs.difference(&ours).collect();
    if !unknown.is_empty() {
        let newer = format!("of a newer release: it has {}", listed(unknown));
        return Finding::warn(check, newer, "use the newer release of slipway to check this cluster");
    }
    Finding::ok(check, "as in this release")
}

/// Versions with the paths of their fields.
fn fields(document: &Value) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for version in document["spec"]["versions"].as_array().into_iter().flatten() {
        let name = version["name"].as_str().unwrap_or_default();
        collect(&version["schema"]["openAPIV3Schema"], name.to_owned(), &mut fields);
    }
    fields
}

fn collect(schema: &Value, path: String, fields: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        collect(schema, format!("{path}.{name}"), fields);
    }
    for (inner, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[inner].is_object() {
            collect(&schema[inner], format!("{path}{sign}"), fields);
        }
    }
    fields.insert(path);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(properties: &Value, established: &str) -> Value {
        let version = json!({"name": "v1", "schema": {"openAPIV3Schema": {"properties": properties}}});
        let condition = json!({"type": "Established", "status": established, "message": "conflict"});
        json!({"spec": {"versions": [version]}, "status": {"conditions": [condition]}})
    }

    #[test]
    fn a_definition_is_missing_older_newer_or_the_same() {
        let ours = document(&json!({"a": {}, "b": {"items": {"properties": {"c": {}}}}}), "True");
        let release = Definition { name: "x.slipway.dev", document: &ours, optional: false };
        assert_eq!(definition(release, Some(&ours)).level, Level::Ok);
        assert_eq!(definition(release, None).level, Level::Warn);
        assert_eq!(definition(Definition { optional: true, ..release }, None).level, Level::Ok);
        let older = document(&json!({"a": {}, "b": {"items": {}}}), "True");
        let found = definition(release, Some(&older));
        assert_eq!(
            (found.level, found.found.as_str()),
            (Level::Warn, "of an older release: it lacks v1.b[].c")
        );
        let newer = document(&json!({"a": {}, "b": {"items": {"properties": {"c": {}}}}, "z": {}}), "True");
        assert!(definition(release, Some(&newer)).found.contains("newer release: it has v1.z"));
        let refused = definition(release, Some(&document(&json!({}), "False")));
        assert_eq!((refused.level, refused.found.as_str()), (Level::Fail, "conflict"));
    }
}
