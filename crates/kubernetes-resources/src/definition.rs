//! What the CustomResourceDefinitions have in common.

use serde_json::{Value, json};

use crate::object::Kind;

/// What is particular about the definition of a kind.
pub(crate) struct Definition {
    pub(crate) short_name: &'static str,
    /// The subresources, by name.
    pub(crate) subresources: Value,
    /// What `kubectl get` shows.
    pub(crate) columns: Value,
    /// What an object is.
    pub(crate) description: &'static str,
    pub(crate) spec: Value,
    pub(crate) status: Value,
    /// Rules about the object as a whole.
    pub(crate) rules: Value,
}

impl Definition {
    /// The definition, as `kubectl apply` takes it.
    pub(crate) fn of<K: Kind>(self) -> Value {
        let kind = K::KIND;
        let schema = json!({
            "type": "object",
            "description": self.description,
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": self.spec,
                "status": self.status,
            },
            "x-kubernetes-validations": self.rules,
        });
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{}", K::PLURAL, K::GROUP)},
            "spec": {
                "group": K::GROUP,
                "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": K::PLURAL,
                    "singular": kind.to_lowercase(), "shortNames": [self.short_name],
                    "categories": ["slipway"]},
                "scope": "Namespaced",
                "versions": [{
                    "name": K::VERSION,
                    "served": true,
                    "storage": true,
                    "subresources": self.subresources,
                    "additionalPrinterColumns": self.columns,
                    "schema": {"openAPIV3Schema": schema},
                }],
            },
        })
    }
}

/// A column of `kubectl get`; those of priority 1 are shown with `--output wide`.
pub(crate) fn column(name: &str, kind: &str, path: &str, priority: u32) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path, "priority": priority})
}

/// A rule in the Common Expression Language (CEL).
///
/// Source: <https://kubernetes.io/docs/reference/using-api/cel/>.
pub(crate) fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// A rule that an object has exactly one of these fields.
pub(crate) fn exactly_one(names: &[&str]) -> Value {
    let counted: Vec<String> = names.iter().map(|name| format!("(has(self.{name}) ? 1 : 0)")).collect();
    rule(&format!("{} == 1", counted.join(" + ")), &format!("expected exactly one of {}", names.join(", ")))
}

/// Compares a definition with its file in the repository, or writes it.
#[cfg(test)]
pub(crate) fn check_file(definition: &Value, file: &str) {
    let text = serde_saphyr::to_string(definition).unwrap();
    let text = format!("# Written by `cargo xtask codegen`.\n{text}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kubernetes");
    let path = std::path::Path::new(folder).join(file);
    if std::env::var_os("SLIPWAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    } else {
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{} is out of date; `cargo xtask codegen` writes it", path.display());
    }
}
