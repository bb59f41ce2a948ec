//! The CustomResourceDefinition of TrainingJob.

use serde_json::{Value, json};

use super::spec::SHAPE;
use super::{Status, TrainingJobKind};
use crate::definition::{Definition, column, exactly_one, rule};
use crate::shape::Shape;

/// Largest lists and maps; they also bound the cost of the rules.
const MAX_ENTRIES: u32 = 100;
const MAX_ENV: u32 = 1_000;

/// The definition, as `kubectl apply` takes it.
pub fn definition() -> Value {
    let mut status = Shape::of::<Status>().schema();
    status["description"] = json!("What has become of the job.");
    let definition = Definition {
        short_name: "tj",
        subresources: json!({"status": {}}),
        columns: columns(),
        description: "A training job of Slipway.",
        spec: spec(),
        status,
        rules: json!([unchanged()]),
    };
    definition.of::<TrainingJobKind>()
}

/// What `kubectl get` shows.
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

fn spec() -> Value {
    let mut spec = SHAPE.schema();
    spec["description"] =
        json!("The training job. It cannot be changed once it was accepted, except `suspend`.");
    spec["properties"]["suspend"] = json!({"type": "boolean",
        "description": "Suspends the job: it gives its attempt and its resources up until this is false \
            again. Applied when it changes. [default: false]"});
    bound(&mut spec);
    add_rules(&mut spec);
    spec
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

/// Rules about fields.
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
    use super::*;
    use crate::definition::check_file;

    #[test]
    fn the_definition_in_the_repository_is_this_one() {
        check_file(&definition(), "trainingjobs.yaml");
    }

    #[test]
    fn rules_name_fields_that_exist() {
        let definition = definition();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let text = schema["properties"]["spec"]["x-kubernetes-validations"].to_string();
        for name in ["gpuClaimTemplate", "resources", "checkpoint", "replicas"] {
            assert!(schema["properties"]["spec"]["properties"][name].is_object() && text.contains(name));
        }
        let rule = schema["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
        assert!(rule.contains("self.spec.image == oldSelf.spec.image") && !rule.contains("suspend"));
    }
}
