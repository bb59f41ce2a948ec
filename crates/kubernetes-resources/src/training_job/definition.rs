//! The CustomResourceDefinition of TrainingJob.

use serde_json::{Value, json};

use super::spec::SHAPE;
use super::{KIND, PLURAL, Status, VERSION};
use crate::GROUP;
use crate::shape::Shape;

/// Largest lists and maps; they also bound the cost of the rules.
const MAX_ENTRIES: u32 = 100;
const MAX_ENV: u32 = 1_000;

/// The definition, as `kubectl apply` takes it.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {"kind": KIND, "listKind": format!("{KIND}List"), "plural": PLURAL,
                "singular": KIND.to_lowercase(), "shortNames": ["tj"], "categories": ["slipway"]},
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(),
                "schema": {"openAPIV3Schema": schema()},
            }],
        },
    })
}

fn column(name: &str, kind: &str, path: &str, priority: u32) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path, "priority": priority})
}

/// What `kubectl get` shows; with `--output wide` also those of priority 1.
fn columns() -> Value {
    json!([
        column("Phase", "string", ".status.phase", 0),
        column("Attempt", "integer", ".status.attempt", 0),
        column("Step", "integer", ".status.step", 0),
        column("Progress", "string", ".status.progress", 0),
        column("Age", "date", ".metadata.creationTimestamp", 0),
        column("Reason", "string", ".status.reason", 1),
        column("Job", "string", ".status.jobId", 1),
    ])
}

fn schema() -> Value {
    let mut spec = SHAPE.schema();
    spec["description"] =
        json!("The training job. It cannot be changed once it was accepted, except `suspend`.");
    spec["properties"]["suspend"] = json!({"type": "boolean",
        "description": "Suspends the job: it gives its attempt and its resources up until this is false \
            again. Applied when it changes. [default: false]"});
    bound(&mut spec);
    add_rules(&mut spec);
    let mut status = Shape::of::<Status>().schema();
    status["description"] = json!("What has become of the job.");
    // The API server would drop what it does not know of the types above.
    json!({
        "type": "object",
        "description": "A training job of Slipway.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [unchanged()],
    })
}

/// Sets limits, so that the cost of each rule is bounded.
fn bound(spec: &mut Value) {
    let properties = &mut spec["properties"];
    properties["command"]["minItems"] = json!(1);
    properties["image"]["minLength"] = json!(1);
    properties["env"]["maxProperties"] = json!(MAX_ENV);
    properties["replicas"]["maxProperties"] = json!(4);
    properties["replicas"]["additionalProperties"]["minimum"] = json!(1);
    for name in ["envRefs", "labels", "nodeSelector", "podAnnotations", "podLabels"] {
        properties[name]["maxProperties"] = json!(MAX_ENTRIES);
    }
    for name in ["envFrom", "imagePullSecrets", "volumes"] {
        properties[name]["maxItems"] = json!(MAX_ENTRIES);
    }
}

fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// Rules in the Common Expression Language (CEL).
///
/// Source: <https://kubernetes.io/docs/reference/using-api/cel/>.
fn add_rules(spec: &mut Value) {
    spec["x-kubernetes-validations"] = json!([
        rule(
            "!has(self.gpuClaimTemplate) || !has(self.resources) || !has(self.resources.gpus) || \
             self.resources.gpus == 0",
            "gpuClaimTemplate claims GPUs in place of resources.gpus: expected only one of them",
        ),
        rule(
            "!has(self.checkpoint) || !has(self.checkpoint.sharded) || !self.checkpoint.sharded || \
             has(self.replicas)",
            "checkpoint.sharded: expected a distributed job, but replicas is not set",
        ),
    ]);
    let properties = &mut spec["properties"];
    properties["env"]["x-kubernetes-validations"] = json!([rule(
        "self.all(name, !name.startsWith('SLIPWAY_'))",
        "names that begin with SLIPWAY_ are reserved",
    )]);
    properties["replicas"]["x-kubernetes-validations"] = json!([rule(
        "self.all(role, role in ['chief', 'master', 'worker', 'ps', 'evaluator'])",
        "expected the roles chief, master, worker, ps and evaluator",
    )]);
    properties["timeoutSeconds"]["x-kubernetes-validations"] =
        json!([rule("self > 0.0", "expected more than 0 seconds")]);
    properties["volumes"]["items"]["x-kubernetes-validations"] =
        json!([exactly_one(&["claim", "secret", "configMap", "emptyDir"])]);
    let source = json!([exactly_one(&["secret", "configMap"])]);
    properties["envFrom"]["items"]["x-kubernetes-validations"] = source.clone();
    properties["envRefs"]["additionalProperties"]["x-kubernetes-validations"] = source;
}

fn exactly_one(names: &[&str]) -> Value {
    let counted: Vec<String> = names.iter().map(|name| format!("(has(self.{name}) ? 1 : 0)")).collect();
    rule(&format!("{} == 1", counted.join(" + ")), &format!("expected exactly one of {}", names.join(", ")))
}

/// A job that was accepted runs as it is: another one is another object.
fn unchanged() -> Value {
    let Shape::Object(fields) = &*SHAPE else { return json!({}) };
    let same = |name: &String| {
        format!(
            "has(self.spec.{name}) == has(oldSelf.spec.{name}) && \
             (!has(self.spec.{name}) || self.spec.{name} == oldSelf.spec.{name})"
        )
    };
    let same: Vec<String> = fields.iter().map(|field| same(&field.name)).collect();
    let accepted = "has(oldSelf.status) && has(oldSelf.status.jobId)";
    rule(
        &format!("!({accepted}) || ({})", same.join(" && ")),
        "spec: a job that was accepted cannot be changed, except for suspend; create another object",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_definition_in_the_repository_is_this_one() {
        let text = serde_saphyr::to_string(&definition()).unwrap();
        let text = format!("# Written by `cargo xtask codegen`.\n{text}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes/trainingjobs.yaml");
        if std::env::var_os("SLIPWAY_WRITE_DOCS").is_some() {
            std::fs::write(&path, text).unwrap();
        } else {
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == text, "{} is out of date; `cargo xtask codegen` writes it", path.display());
        }
    }

    #[test]
    fn rules_name_fields_that_exist() {
        let schema = schema();
        let text = schema["properties"]["spec"]["x-kubernetes-validations"].to_string();
        for name in ["gpuClaimTemplate", "resources", "checkpoint", "replicas"] {
            assert!(schema["properties"]["spec"]["properties"][name].is_object() && text.contains(name));
        }
        let rule = schema["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
        assert!(rule.contains("self.spec.image == oldSelf.spec.image") && !rule.contains("suspend"));
    }
}
