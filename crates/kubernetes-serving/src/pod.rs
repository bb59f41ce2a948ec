//! The pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, PodResourceClaim, PodSpec, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use slipway_domain::Invalid;
use slipway_kubernetes_pods::{each, non_empty, parsed, restricted_pod};
use slipway_kubernetes_resources::model_deployment::Spec;

use crate::container::{self, GPU_CLAIM};
use crate::envoy;
use crate::facts::Facts;
use crate::names::{Part, identity};
use crate::ports::METRICS_PORT;
use crate::volumes::{CERTIFICATES_ANNOTATION, volumes};

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
    let certificates = spec.envoy.as_ref().and(spec.tls.as_ref()).map(envoy::certificates);
    annotations.extend(certificates.map(|file| (CERTIFICATES_ANNOTATION.to_owned(), file)));
    annotations.extend(spec.pod_annotations.clone());
    annotations
}

pub(crate) fn spec(part: &Part, spec: &Spec, facts: &Facts) -> Result<PodSpec, Invalid> {
    let constraints = each("spec.topologySpreadConstraints", &spec.topology_spread_constraints)?;
    let spread = if constraints.is_empty() { vec![over_nodes(part)] } else { constraints };
    let account = spec.service_account.clone();
    let template = spec.resources.as_ref().and_then(|resources| resources.gpu_claim_template.clone());
    let claim = template.map(|template| PodResourceClaim {
        name: GPU_CLAIM.to_owned(),
        resource_claim_template_name: Some(template),
        resource_claim_name: None,
    });
    let prefetch = facts.cache_claim.as_ref().map(|_| container::prefetch(part, spec, facts));
    let envoy = spec.envoy.as_ref().map(|envoy| envoy::container(part, spec, envoy, facts));
    let secrets = spec.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    Ok(PodSpec {
        affinity: parsed("spec.affinity", spec.affinity.as_ref())?,
        automount_service_account_token: Some(account.is_some()),
        containers: vec![container::serving(part, spec, facts)],
        // Otherwise every Service of the namespace is in the environment.
        enable_service_links: Some(false),
        image_pull_secrets: non_empty(secrets.collect()),
        init_containers: non_empty(prefetch.into_iter().chain(envoy).collect()),
        node_selector: Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty()),
        priority_class_name: spec.priority_class.clone(),
        resource_claims: claim.map(|claim| vec![claim]),
        security_context: Some(restricted_pod()),
        service_account_name: Some(account.unwrap_or_else(|| part.name.clone())),
        termination_grace_period_seconds: Some(GRACE_PERIOD_S),
        tolerations: non_empty(each("spec.tolerations", &spec.tolerations)?),
        topology_spread_constraints: Some(spread),
        volumes: Some(volumes(spec, facts)),
        ..PodSpec::default()
    })
}

/// The loss of one node is to leave other pods.
fn over_nodes(part: &Part) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        label_selector: Some(LabelSelector { match_labels: Some(identity(part)), match_expressions: None }),
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        ..TopologySpreadConstraint::default()
    }
}
