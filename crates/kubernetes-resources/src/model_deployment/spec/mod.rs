//! The `spec` of a ModelDeployment.

mod edge;
mod model;
mod pods;
mod records;
mod scale;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_api::rest::rollouts::{DrillRequest, Rule, StickyKey, Strategy};
use slipway_domain::Invalid;
use utoipa::ToSchema;

pub use self::edge::{Access, Envoy, Gateway, Ingress, Route, Tls};
pub use self::model::ModelRef;
pub use self::pods::{Layout, Resources};
pub use self::records::{Monitor, Records};
pub use self::scale::{Metric, Replicas, Scaling};
use super::ModelDeployment;
use crate::shape::Shape;

/// Its fields.
pub(super) static SHAPE: LazyLock<Shape> = LazyLock::new(Shape::of::<Spec>);

/// What is served, and by how many pods.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The model.
    pub model: ModelRef,
    /// How each new version is rolled out; the strategy of a rollout in progress stays.
    /// [default: canary steps of 10 % and 50 %]
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// The part of a request that identifies a client, which stays on one version during a rollout
    /// [default: each request is drawn independently].
    #[serde(default)]
    pub sticky_key: Option<StickyKey>,
    /// Rules by header; the first one that matches decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Output that holds the prediction. It cannot be changed. [default: the first output of integers,
    /// strings or booleans, else the first]
    #[serde(default)]
    pub prediction_output: Option<String>,
    /// Number of pods [default: one].
    #[serde(default)]
    pub replicas: Option<Replicas>,
    /// When pods are added, up to `replicas.max` [default: at 80 % of the requested CPU].
    #[serde(default)]
    pub scaling: Option<Scaling>,
    /// What each pod needs.
    #[serde(default)]
    pub resources: Option<Resources>,
    /// Image of serving [default: the operator's setting].
    #[serde(default)]
    pub image: Option<String>,
    /// Settings of serving as environment variables, such as `SLIPWAY_SERVING_KEEP_VERSIONS`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// ServiceAccount of the pods. Its token is mounted only if this is set. [default: one of their own]
    #[serde(default)]
    pub service_account: Option<String>,
    /// Names of Secrets with credentials of the image's registry.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// Labels of the pods.
    #[serde(default)]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    #[serde(default)]
    pub pod_annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the pods, each a `Toleration` of Kubernetes.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub tolerations: Vec<Value>,
    /// An `Affinity` of Kubernetes.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub affinity: Option<Value>,
    /// Each a `TopologySpreadConstraint` of Kubernetes [default: pods are spread over nodes if possible].
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub topology_spread_constraints: Vec<Value>,
    /// PriorityClass of the pods.
    #[serde(default)]
    pub priority_class: Option<String>,
    /// Changes of the pods' template, a `PodTemplateSpec` of Kubernetes: objects are merged, containers,
    /// volumes and variables are merged by name, other lists are replaced. What the restricted Pod Security
    /// Standard forbids is refused, unless the operator allows it.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub pod_template: Option<Value>,
    /// Whether all versions run in each pod, or each in pods of its own [default: together].
    #[serde(default)]
    pub placement: Option<Layout>,
    /// Who may call the pods [default: every client that reaches them].
    #[serde(default)]
    pub access: Option<Access>,
    /// TLS of the pods' ports [default: plain text].
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Envoy as a sidecar [default: none]. `{}` is enough.
    #[serde(default)]
    pub envoy: Option<Envoy>,
    /// Which requests and answers are recorded [default: all of them].
    #[serde(default)]
    pub records: Option<Records>,
    /// A drift monitor of the deployment [default: none].
    #[serde(default)]
    pub monitor: Option<Monitor>,
    /// A fault drill: copies of requests, or recorded requests, meet a failure, and the analysis of
    /// `strategy` judges them. It starts when the field is set or changed and no rollout is in progress, and
    /// ends automatically. [default: none]
    #[serde(default)]
    pub fault_replay: Option<DrillRequest>,
    /// Routes of the Gateway API to the pods [default: none].
    #[serde(default)]
    pub route: Option<Route>,
    /// An Ingress to the pods [default: none].
    #[serde(default)]
    pub ingress: Option<Ingress>,
}

impl ModelDeployment {
    /// What the user asks for.
    ///
    /// # Errors
    /// A field is wrong; names it as the resource does.
    pub fn parsed(&self) -> Result<Spec, Invalid> {
        let body = SHAPE.body(&self.spec, "spec")?;
        serde_json::from_value(body).map_err(|error| Invalid::new("spec", error.to_string()))
    }

    /// Name of the registered model. One that comes from elsewhere and has no name gets that of the object.
    pub fn model_name(&self, spec: &Spec) -> String {
        spec.model.name.clone().unwrap_or_else(|| format!("{}.{}", self.namespace(), self.name()))
    }
}

/// Path of a field of a deployment's REST body as that of the resource.
pub(super) fn resource_path(json_path: &str) -> String {
    let path = match json_path {
        "version" | "alias" | "digest" => format!("model.{json_path}"),
        "uri" => "model.storageUri".to_owned(),
        "model" => "model.name".to_owned(),
        "watch_alias" => "model.alias".to_owned(),
        path => SHAPE.path(path.strip_prefix("default_").unwrap_or(path)),
    };
    format!("spec.{path}")
}

impl Spec {
    /// The alias that a deployment of this name follows: that of the spec, or the one that the registry sets
    /// to each new content of the storage.
    pub fn followed_alias(&self, deployment: &str) -> Option<String> {
        let of_storage = || self.model.watch.then(|| deployment.to_owned());
        self.model.alias.clone().or_else(of_storage)
    }

    /// Whether each version has pods of its own.
    pub fn is_separate(&self) -> bool {
        self.placement == Some(Layout::Separate)
    }

    /// The number of pods.
    pub fn replicas(&self) -> Replicas {
        self.replicas.unwrap_or_default()
    }

    /// The text of a refusal, whose field is one of a deployment's REST body.
    pub fn refusal(field: Option<&str>, detail: &str) -> String {
        let Some(field) = field else { return detail.to_owned() };
        let message = detail.strip_prefix(&format!("`{field}`: ")).unwrap_or(detail);
        Invalid::new(resource_path(field), message).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use slipway_api::rest::rollouts::DrillTarget;

    use super::*;

    fn parsed(spec: Value) -> Result<Spec, Invalid> {
        ModelDeployment { spec, ..ModelDeployment::default() }.parsed()
    }

    #[test]
    fn a_spec_is_read_by_the_names_of_kubernetes() {
        let spec = json!({"model": {"name": "fraud", "alias": "champion"},
            "strategy": {"steps": [{"weightPercent": 10, "holdSeconds": 5}]},
            "replicas": {"min": 2, "max": 4}, "scaling": {"metric": "requestsPerSecond", "target": 60},
            "resources": {"cpus": 0.5, "memory": "1Gi"}, "stickyKey": {"header": "x-user"}});
        let read = parsed(spec).unwrap();
        assert_eq!(read.model.alias.as_deref(), Some("champion"));
        assert_eq!(read.strategy.as_ref().unwrap().steps[0].weight_percent, 10);
        assert_eq!((read.replicas().min, read.replicas().most()), (2, 4));
        assert_eq!(read.resources.unwrap().memory_bytes, Some(1 << 30));
        let replay = json!({"model": {"name": "fraud", "version": "1"},
            "faultReplay": {"fault": "latency", "latencyMilliseconds": 200, "seconds": 30}});
        let drill = parsed(replay).unwrap().fault_replay.unwrap();
        assert_eq!(
            (drill.latency_ms, drill.seconds, drill.target),
            (Some(200), Some(30), DrillTarget::Copies)
        );
        let least = parsed(json!({"model": {"name": "fraud", "version": "1"}})).unwrap();
        assert_eq!((least.replicas().min, least.replicas().most()), (1, 1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (spec, field) in [
            (json!({"model": {"name": "a", "version": "1"}, "replica": 1}), "spec.replica"),
            (
                json!({"model": {"name": "a", "version": "1"}, "resources": {"memory": "8GB"}}),
                "spec.resources.memory",
            ),
            (json!({}), "spec"),
        ] {
            assert_eq!(parsed(spec).unwrap_err().field, field);
        }
        for (field, expected) in [
            ("version", "spec.model.version"),
            ("default_strategy.steps[0].hold_s", "spec.strategy.steps[0].holdSeconds"),
            ("rules[0].when", "spec.rules[0].when"),
            ("watch_alias", "spec.model.alias"),
            ("fault_replay.latency_ms", "spec.faultReplay.latencyMilliseconds"),
            ("fault_replay.records.last", "spec.faultReplay.records.last"),
        ] {
            assert_eq!(resource_path(field), expected);
        }
        let refused = Spec::refusal(Some("version"), "`version`: model fraud has no version 9");
        assert_eq!(refused, "spec.model.version: model fraud has no version 9");
    }
}
