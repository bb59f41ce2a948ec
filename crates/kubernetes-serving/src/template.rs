//! Changes that a spec makes to the template of its pods.

use k8s_openapi::api::core::v1::{Container, PodTemplateSpec, SecurityContext};
use serde_json::{Map, Value};
use slipway_domain::Invalid;
use slipway_kubernetes_pods::{parsed, refuse_privileges, restricted_container};
use slipway_kubernetes_resources::model_deployment::Spec;

use crate::facts::Facts;
use crate::names::{Part, labels};

const FIELD: &str = "spec.podTemplate";
/// Lists whose items have a name, by the field that has it.
///
/// Source: the merge keys of <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>.
const NAMED_LISTS: [(&str, &str); 9] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("volumeMounts", "mountPath"),
    ("imagePullSecrets", "name"),
    ("resourceClaims", "name"),
    ("hostAliases", "ip"),
];

/// The template with the changes of the spec.
///
/// # Errors
/// They are no part of a template, or ask for privileges; names the field.
pub(crate) fn changed(
    part: &Part,
    spec: &Spec,
    template: PodTemplateSpec,
    facts: &Facts,
) -> Result<PodTemplateSpec, Invalid> {
    let Some(changes) = &spec.pod_template else { return Ok(template) };
    // What a template does not have is refused before it is merged, with its own place.
    parsed::<PodTemplateSpec>(FIELD, Some(changes))?;
    let broken = |error: serde_json::Error| Invalid::new(FIELD, error.to_string());
    let mut merged = serde_json::to_value(&template).map_err(broken)?;
    merge(&mut merged, changes.clone(), "");
    let mut template: PodTemplateSpec = serde_json::from_value(merged).map_err(broken)?;
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().extend(labels(part));
    if let Some(pod) = &mut template.spec {
        let added = pod.init_containers.iter_mut().flatten().chain(&mut pod.containers);
        added.for_each(restrict);
        if !facts.allow_privileged {
            refuse_privileges(&format!("{FIELD}.spec"), pod)?;
        }
    }
    Ok(template)
}

/// A container that says nothing about its privileges has none.
fn restrict(container: &mut Container) {
    let restricted = restricted_container();
    let context = container.security_context.get_or_insert_with(SecurityContext::default);
    context.allow_privilege_escalation =
        context.allow_privilege_escalation.or(restricted.allow_privilege_escalation);
    context.capabilities = context.capabilities.take().or(restricted.capabilities);
    context.seccomp_profile = context.seccomp_profile.take().or(restricted.seccomp_profile);
}

/// Merges `change` into `value`, which is the field `name`. `null` removes a field.
fn merge(value: &mut Value, change: Value, name: &str) {
    let key = NAMED_LISTS.iter().find(|(list, _)| *list == name).map(|(_, key)| *key);
    match (value, change) {
        (Value::Object(fields), Value::Object(changes)) => merge_fields(fields, changes),
        (Value::Array(items), Value::Array(changes)) if key.is_some() => {
            merge_items(items, changes, key.unwrap_or_default());
        }
        (value, change) => *value = change,
    }
}

fn merge_fields(fields: &mut Map<String, Value>, changes: Map<String, Value>) {
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(&name);
            continue;
        }
        match fields.get_mut(&name) {
            Some(value) => merge(value, change, &name),
            None => {
                fields.insert(name, change);
            }
        }
    }
}

fn merge_items(items: &mut Vec<Value>, changes: Vec<Value>, key: &str) {
    for change in changes {
        match items.iter_mut().find(|item| item.get(key).is_some() && item.get(key) == change.get(key)) {
            Some(item) => merge(item, change, ""),
            None => items.push(change),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn named_items_are_merged_and_other_lists_are_replaced() {
        let mut template = json!({"containers": [{"name": "serving", "image": "a", "args": ["x", "y"],
            "env": [{"name": "A", "value": "1"}]}], "dnsPolicy": "ClusterFirst"});
        let change = json!({"containers": [{"name": "serving", "args": ["z"],
                "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]},
            {"name": "sidecar", "image": "b"}], "dnsPolicy": null, "hostname": "h"});
        merge(&mut template, change, "spec");
        assert_eq!(
            template,
            json!({"containers": [{"name": "serving", "image": "a", "args": ["z"],
                "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]},
            {"name": "sidecar", "image": "b"}], "hostname": "h"})
        );
    }
}
