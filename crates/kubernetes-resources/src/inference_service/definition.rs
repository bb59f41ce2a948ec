//! A CustomResourceDefinition of InferenceService with the fields that are understood, for clusters without
//! KServe. Further fields are kept: they have no effect, and the status says so.

use serde_json::{Value, json};

use super::{InferenceServiceKind, Status};
use crate::definition::{Definition, column, rule};
use crate::shape::Shape;

/// Pods have names with eighteen characters more than a ModelDeployment, which are host names.
const MAX_NAME_CHARS: u32 = 45;
const MAX_REPLICAS: u32 = 1_000;

/// The definition, as `kubectl apply` takes it.
pub fn definition() -> Value {
    let mut status = Shape::of::<Status>().schema();
    status["description"] = json!("What has become of the service.");
    status["x-kubernetes-preserve-unknown-fields"] = json!(true);
    let condition = |name: &str| format!(".status.conditions[?(@.type=='{name}')].status");
    let latest = ".status.components.predictor.traffic[?(@.latestRevision==true)]";
    let before = ".status.components.predictor.traffic[?(@.latestRevision==false)]";
    let definition = Definition {
        short_name: "isvc",
        subresources: json!({"status": {}}),
        columns: json!([
            column("URL", "string", ".status.url", 0),
            column("Ready", "string", &condition("Ready"), 0),
            column("Prev", "integer", &format!("{before}.percent"), 0),
            column("Latest", "integer", &format!("{latest}.percent"), 0),
            column("PrevRolledoutRevision", "string", &format!("{before}.revisionName"), 0),
            column("LatestReadyRevision", "string", &format!("{latest}.revisionName"), 0),
            column("Age", "date", ".metadata.creationTimestamp", 0),
        ]),
        description: "An inference service of KServe, which Slipway runs as a ModelDeployment.",
        spec: spec(),
        status,
        rules: json!([rule(
            &format!("self.metadata.name.size() <= {MAX_NAME_CHARS}"),
            &format!("metadata.name: expected at most {MAX_NAME_CHARS} characters"),
        )]),
    };
    definition.of::<InferenceServiceKind>()
}

fn spec() -> Value {
    let object = || json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let count = |description: &str| {
        let range = (0, MAX_REPLICAS);
        json!({"type": "integer", "minimum": range.0, "maximum": range.1, "description": description})
    };
    let model = json!({
        "type": "object",
        "description": "The model.",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "modelFormat": {"type": "object", "description": "Its format: onnx or triton.",
                "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"name": {"type": "string"}, "version": {"type": "string"}}},
            "storageUri": {"type": "string", "description": "Where it is: `s3://…` or `https://…`."},
            "resources": {"type": "object", "description": "What each pod needs.",
                "x-kubernetes-preserve-unknown-fields": true},
        },
    });
    let metric = json!({"type": "string", "enum": ["cpu", "memory", "concurrency", "rps"],
        "description": "What is measured [default: cpu]."});
    let percent = json!({"type": "integer", "minimum": 0, "maximum": 100,
        "description": "Percentage of the traffic that the newest version keeps [default: all of it]."});
    let predictor = json!({
        "type": "object",
        "description": "What serves the model.",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "model": model,
            "minReplicas": count("Minimum number of pods [default: 1]; 0: none without requests."),
            "maxReplicas": count("Maximum number of pods [default: the minimum]."),
            "scaleTarget": {"type": "integer", "minimum": 1,
                "description": "What the metric is to be for each pod on average."},
            "scaleMetric": metric,
            "canaryTrafficPercent": percent,
            "serviceAccountName": {"type": "string", "description": "ServiceAccount of the pods."},
        },
    });
    json!({
        "type": "object",
        "description": "What is served.",
        "required": ["predictor"],
        "properties": {"predictor": predictor, "transformer": object(), "explainer": object()},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::check_file;

    #[test]
    fn the_definition_in_the_repository_is_this_one() {
        check_file(&definition(), "inferenceservices.yaml");
    }
}
