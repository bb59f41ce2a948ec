//! The pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, LocalObjectReference, PodSpec, TopologySpreadConstraint, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use slipway_domain::Invalid;
use slipway_kubernetes_pods::{each, non_empty, parsed, restricted_pod};
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Spec};

use crate::container::{self, METRICS_PORT, VOLUMES};
use crate::facts::Facts;
use crate::names::identity;

/// Time from SIGTERM until requests that are still running are cut off, in seconds.
const GRACE_PERIOD_S: i64 = 60;

pub(crate) fn annotations(spec: &Spec) -> BTreeMap<String, String> {
    let scraped = [
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", METRICS_PORT.to_string()),
        ("prometheus.io/path", "/metrics".to_owned()),
    ];
    let mut annotations: BTreeMap<String, String> =
        scraped.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    annotations.extend(spec.pod_annotations.clone());
    annotations
}

pub(crate) fn spec(object: &ModelDeployment, spec: &Spec, facts: &Facts) -> Result<PodSpec, Invalid> {
    let constraints = each("spec.topologySpreadConstraints", &spec.topology_spread_constraints)?;
    let spread = if constraints.is_empty() { vec![over_nodes(object)] } else { constraints };
    let account = spec.service_account.clone();
    let volume = |(name, _): (&str, &str)| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    let secrets = spec.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    Ok(PodSpec {
        affinity: parsed("spec.affinity", spec.affinity.as_ref())?,
        automount_service_account_token: Some(account.is_some()),
        containers: vec![container::serving(object, spec, facts)],
        // Otherwise every Service of the namespace is in the environment.
        enable_service_links: Some(false),
        image_pull_secrets: non_empty(secrets.collect()),
        node_selector: Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty()),
        priority_class_name: spec.priority_class.clone(),
        security_context: Some(restricted_pod()),
        service_account_name: Some(account.unwrap_or_else(|| object.name().to_owned())),
        termination_grace_period_seconds: Some(GRACE_PERIOD_S),
        tolerations: non_empty(each("spec.tolerations", &spec.tolerations)?),
        topology_spread_constraints: Some(spread),
        volumes: Some(VOLUMES.into_iter().map(volume).collect()),
        ..PodSpec::default()
    })
}

/// The loss of one node is to leave other pods.
fn over_nodes(object: &ModelDeployment) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        label_selector: Some(LabelSelector { match_labels: Some(identity(object)), match_expressions: None }),
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        ..TopologySpreadConstraint::default()
    }
}
