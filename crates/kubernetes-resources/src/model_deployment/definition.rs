//! The CustomResourceDefinition of ModelDeployment.

use serde_json::{Value, json};
use slipway_domain::rollout::drill::{MAX_LATENCY_MS, MAX_RECORDS, MAX_REQUESTS_PER_SECOND, MAX_SECONDS};

use super::spec::SHAPE;
use super::{ModelDeploymentKind, Status};
use crate::definition::{Definition, column, exactly_one, rule};
use crate::shape::Shape;

/// Largest lists and maps; they also bound the cost of the rules.
const MAX_ENTRIES: u32 = 100;
const MAX_REPLICAS: u32 = 1_000;
const MAX_STEPS: u32 = 100;
const MAX_URI_CHARS: u32 = 2_048;
/// Names of Secrets and hosts.
const MAX_OBJECT_NAME_CHARS: u32 = 253;
const MAX_GATEWAYS: u32 = 16;
const MAX_HOSTNAMES: u32 = 16;
const MAX_RETRIES: u32 = 10;
const MAX_TIMEOUT_S: u32 = 3_600;
/// Names of pods have eighteen characters more, and are host names.
const MAX_NAME_CHARS: u32 = 45;

/// The definition, as `kubectl apply` takes it.
pub fn definition() -> Value {
    let mut status = Shape::of::<Status>().schema();
    status["description"] = json!("What has become of the deployment.");
    let scale = json!({"specReplicasPath": ".spec.replicas.min", "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector"});
    let definition = Definition {
        short_name: "md",
        subresources: json!({"status": {}, "scale": scale}),
        columns: columns(),
        description: "A deployment of a registered model, with serving pods of its own.",
        spec: spec(),
        status,
        rules: json!([
            rule(
                &format!(
                    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && \
                     self.metadata.name.size() <= {MAX_NAME_CHARS}"
                ),
                &format!(
                    "metadata.name: expected at most {MAX_NAME_CHARS} lower-case letters, digits and `-`, a \
                     letter first: it is the name of a Service"
                ),
            ),
            rule(
                "self.metadata.name != 'slipway-serving-pool'",
                "metadata.name: slipway-serving-pool is the serving pool of the namespace",
            ),
        ]),
    };
    definition.of::<ModelDeploymentKind>()
}

/// What `kubectl get` shows.
fn columns() -> Value {
    let condition = |name: &str| format!(".status.conditions[?(@.type=='{name}')].status");
    json!([
        column("Ready", "string", &condition("Ready"), 0),
        column("Stable", "string", ".status.stableVersion", 0),
        column("Candidate", "string", ".status.candidateVersion", 0),
        column("Weight", "integer", ".status.candidateWeightPercent", 0),
        column("Pods", "integer", ".status.readyReplicas", 0),
        column("Age", "date", ".metadata.creationTimestamp", 0),
        column("Decision", "string", ".status.lastDecision", 1),
        column("URL", "string", ".status.url", 1),
    ])
}

fn spec() -> Value {
    let mut spec = SHAPE.schema();
    spec["description"] = json!("What is served, and by how many pods.");
    bound(&mut spec);
    add_rules(&mut spec);
    spec
}

/// Sets limits and defaults.
fn bound(spec: &mut Value) {
    let properties = &mut spec["properties"];
    for name in ["env", "nodeSelector", "podAnnotations", "podLabels"] {
        properties[name]["maxProperties"] = json!(MAX_ENTRIES);
    }
    for name in ["imagePullSecrets", "rules", "tolerations", "topologySpreadConstraints"] {
        properties[name]["maxItems"] = json!(MAX_ENTRIES);
    }
    bound_model(&mut properties["model"]["properties"]);
    bound_edge(properties);
    let replicas = &mut properties["replicas"]["properties"];
    for name in ["min", "max"] {
        replicas[name]["minimum"] = json!(1);
        replicas[name]["maximum"] = json!(MAX_REPLICAS);
    }
    replicas["min"]["default"] = json!(1);
    let scaling = &mut properties["scaling"]["properties"];
    scaling["metric"]["default"] = json!("cpu");
    for name in ["target", "scaleToZeroAfterSeconds"] {
        scaling[name]["minimum"] = json!(1);
    }
    let sample = &mut properties["records"]["properties"]["samplePercent"];
    (sample["minimum"], sample["maximum"]) = (json!(0), json!(100));
    properties["records"]["properties"]["redact"]["maxItems"] = json!(MAX_ENTRIES);
    let steps = &mut properties["strategy"]["properties"]["steps"];
    steps["maxItems"] = json!(MAX_STEPS);
    steps["items"]["properties"]["weightPercent"]["maximum"] = json!(100);
    properties["resources"]["properties"]["cpus"]["minimum"] = json!(0);
    bound_fault_replay(&mut properties["faultReplay"]["properties"]);
}

fn bound_fault_replay(replay: &mut Value) {
    for (name, most) in
        [("percent", 100), ("seconds", u64::from(MAX_SECONDS)), ("latencyMilliseconds", MAX_LATENCY_MS)]
    {
        (replay[name]["minimum"], replay[name]["maximum"]) = (json!(1), json!(most));
    }
    replay["confirm"]["maxLength"] = json!(MAX_OBJECT_NAME_CHARS);
    let records = &mut replay["records"]["properties"];
    for (name, most) in [("last", MAX_RECORDS), ("requestsPerSecond", MAX_REQUESTS_PER_SECOND)] {
        (records[name]["minimum"], records[name]["maximum"]) = (json!(1), json!(most));
    }
}

fn bound_model(model: &mut Value) {
    model["name"]["minLength"] = json!(1);
    for name in ["name", "version", "alias"] {
        model[name]["maxLength"] = json!(256);
    }
    model["digest"]["pattern"] = json!("^sha256:[0-9a-f]{64}$");
    model["digest"]["maxLength"] = json!(71);
    model["storageUri"]["pattern"] = json!("^(s3|https|http|oci|pvc)://[^/]+/.+$");
    let account = &mut model["storageServiceAccount"];
    (account["minLength"], account["maxLength"]) = (json!(1), json!(MAX_OBJECT_NAME_CHARS));
    model["storageUri"]["maxLength"] = json!(MAX_URI_CHARS);
}

fn bound_edge(properties: &mut Value) {
    for (section, name) in [("access", "tokensSecret"), ("tls", "secretName"), ("ingress", "tlsSecret")] {
        let field = &mut properties[section]["properties"][name];
        (field["minLength"], field["maxLength"]) = (json!(1), json!(MAX_OBJECT_NAME_CHARS));
    }
    properties["ingress"]["properties"]["host"]["maxLength"] = json!(MAX_OBJECT_NAME_CHARS);
    properties["ingress"]["properties"]["annotations"]["maxProperties"] = json!(MAX_ENTRIES);
    let envoy = &mut properties["envoy"]["properties"];
    for (name, least, most) in [("retries", 0, MAX_RETRIES), ("timeoutSeconds", 1, MAX_TIMEOUT_S)] {
        (envoy[name]["minimum"], envoy[name]["maximum"]) = (json!(least), json!(most));
    }
    let route = &mut properties["route"]["properties"];
    (route["gateways"]["minItems"], route["gateways"]["maxItems"]) = (json!(1), json!(MAX_GATEWAYS));
    for name in ["hostnames", "grpcHostnames"] {
        route[name]["maxItems"] = json!(MAX_HOSTNAMES);
        route[name]["items"]["maxLength"] = json!(MAX_OBJECT_NAME_CHARS);
    }
}

/// Rules about fields.
fn add_rules(spec: &mut Value) {
    spec["x-kubernetes-validations"] = rules_across_fields();
    let properties = &mut spec["properties"];
    properties["model"]["x-kubernetes-validations"] = json!([
        exactly_one(&["version", "alias", "digest", "storageUri"]),
        rule("has(self.name) || has(self.storageUri)", "name: required unless storageUri is set"),
        rule("!has(self.watch) || !self.watch || has(self.storageUri)", "watch: expected storageUri, too"),
        rule(
            "!has(self.watch) || !self.watch || !has(self.storageUri) || \
             !self.storageUri.startsWith('pvc://') && !has(self.storageServiceAccount)",
            "watch: not with pvc:// and storageServiceAccount, which are read once; use s3:// or https://",
        ),
        rule(
            "!has(self.storageServiceAccount) || \
             has(self.storageUri) && self.storageUri.startsWith('s3://')",
            "storageServiceAccount: expected a storageUri s3://BUCKET/PREFIX",
        ),
        rule(
            "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)",
            "name: another model needs another ModelDeployment",
        ),
    ]);
    properties["route"]["x-kubernetes-validations"] = json!([
        rule("has(self.hostnames) || has(self.grpcHostnames)", "expected hostnames, grpcHostnames or both"),
        rule(
            "!has(self.hostnames) || !has(self.grpcHostnames) || \
             !self.hostnames.exists(name, name in self.grpcHostnames)",
            "grpcHostnames: a gateway accepts no name that is one of hostnames, too",
        ),
    ]);
    properties["resources"]["x-kubernetes-validations"] = json!([rule(
        "!has(self.gpuClaimTemplate) || !has(self.gpus) || self.gpus == 0",
        "gpuClaimTemplate: not with gpus",
    )]);
    properties["replicas"]["x-kubernetes-validations"] =
        json!([rule("!has(self.max) || self.min <= self.max", "max: expected at least min")]);
    properties["scaling"]["x-kubernetes-validations"] = json!([rule(
        "self.metric in ['cpu', 'memory', 'gpu'] || has(self.target)",
        "target: required for this metric",
    )]);
    properties["env"]["x-kubernetes-validations"] = json!([rule(
        "self.all(name, name.startsWith('SLIPWAY_') || name.startsWith('OTEL_') || name == 'RUST_LOG')",
        "expected settings of serving, whose names begin with SLIPWAY_ or OTEL_",
    )]);
    properties["faultReplay"]["x-kubernetes-validations"] = fault_replay_rules();
    properties["podLabels"]["x-kubernetes-validations"] = json!([rule(
        "self.all(name, !name.startsWith('slipway.dev/') && !name.startsWith('app.kubernetes.io/'))",
        "labels that begin with slipway.dev/ or app.kubernetes.io/ are set by Slipway",
    )]);
}

fn fault_replay_rules() -> Value {
    json!([
        rule("has(self.fault) != has(self.records)", "expected either fault or records"),
        rule(
            "has(self.latencyMilliseconds) == (has(self.fault) && self.fault == 'latency')",
            "latencyMilliseconds: required for the fault latency, and for no other",
        ),
        rule(
            "(has(self.target) && self.target == 'answers') == has(self.confirm)",
            "confirm: with the target answers users' requests meet the fault, and the name of the deployment \
             (NAMESPACE_NAME) confirms that; not with the target copies",
        ),
        rule(
            "!has(self.target) || self.target != 'answers' || (has(self.percent) && has(self.fault))",
            "percent and fault: required with the target answers",
        ),
        rule("!has(self.records) || !has(self.percent)", "percent: not with records"),
    ])
}

/// Rules about several fields of the spec, and about changes of it.
fn rules_across_fields() -> Value {
    json!([
        rule(
            "has(self.predictionOutput) == has(oldSelf.predictionOutput) && (!has(self.predictionOutput) || \
             self.predictionOutput == oldSelf.predictionOutput)",
            "predictionOutput cannot be changed; create another ModelDeployment",
        ),
        rule(
            "(has(self.placement) && self.placement == 'separate') == (has(oldSelf.placement) && \
             oldSelf.placement == 'separate')",
            "placement cannot be changed; create another ModelDeployment",
        ),
        rule(
            "!has(self.placement) || self.placement != 'separate' || ((!has(self.scaling) || \
             !has(self.scaling.scaleToZeroAfterSeconds)) && (!has(self.strategy) || \
             !has(self.strategy.shadowPercent) || self.strategy.shadowPercent == 0) && !has(self.rules) && \
             !has(self.stickyKey))",
            "placement: separate is not possible with scaling.scaleToZeroAfterSeconds, \
             strategy.shadowPercent, rules or stickyKey, which need all versions in each pod",
        ),
        rule(
            "!has(self.scaling) || !has(self.scaling.scaleToZeroAfterSeconds) || (!has(self.tls) && \
             (!has(self.access) || !has(self.access.tokensSecret)))",
            "scaling.scaleToZeroAfterSeconds: not with tls or access.tokensSecret, which the serving pool \
             of the namespace does not have",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::check_file;

    #[test]
    fn the_definition_in_the_repository_is_this_one() {
        check_file(&definition(), "modeldeployments.yaml");
    }

    #[test]
    fn limits_and_rules_are_about_fields_that_exist() {
        let spec = spec();
        let properties = &spec["properties"];
        for name in ["env", "nodeSelector", "podAnnotations", "podLabels", "rules", "imagePullSecrets"] {
            assert!(properties[name]["type"].is_string(), "{name}");
        }
        for (section, name) in [
            ("replicas", "min"),
            ("replicas", "max"),
            ("scaling", "target"),
            ("scaling", "scaleToZeroAfterSeconds"),
            ("scaling", "metric"),
            ("model", "digest"),
            ("model", "storageUri"),
            ("records", "samplePercent"),
            ("records", "redact"),
            ("access", "tokensSecret"),
            ("tls", "secretName"),
            ("ingress", "tlsSecret"),
            ("ingress", "host"),
            ("ingress", "annotations"),
            ("envoy", "retries"),
            ("envoy", "timeoutSeconds"),
            ("route", "gateways"),
            ("route", "hostnames"),
            ("route", "grpcHostnames"),
            ("resources", "gpuClaimTemplate"),
            ("faultReplay", "fault"),
            ("faultReplay", "percent"),
            ("faultReplay", "seconds"),
            ("faultReplay", "latencyMilliseconds"),
            ("faultReplay", "target"),
            ("faultReplay", "confirm"),
        ] {
            assert!(properties[section]["properties"][name]["type"].is_string(), "{section}.{name}");
        }
        assert_eq!(spec["required"], json!(["model"]));
        assert!(
            properties["strategy"]["properties"]["steps"]["items"]["properties"]["holdSeconds"].is_object()
        );
    }
}
