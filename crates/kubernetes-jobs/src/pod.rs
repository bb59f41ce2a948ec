//! The pod of an attempt.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, NodeSelectorRequirement, NodeSelectorTerm, PodResourceClaim, PodSpec,
    Toleration, TopologySpreadConstraint,
};
use slipway_domain::Invalid;
use slipway_domain::training::KubernetesSpec;
use slipway_kubernetes_pods::{each, non_empty, parsed, restricted_pod};

use crate::attempt::Attempt;
use crate::container::GPU_CLAIM;
use crate::facts::{Facts, Placement};
use crate::{container, volumes};

pub(crate) fn spec(attempt: &Attempt<'_>, facts: &Facts) -> Result<PodSpec, Invalid> {
    let kubernetes = attempt.kubernetes;
    let placed = Placed::of(attempt, facts)?;
    let own_context = parsed("pod_security_context", kubernetes.pod_security_context.as_ref())?;
    let has_account = kubernetes.service_account.is_some();
    let claim = |template: &String| {
        vec![PodResourceClaim {
            name: GPU_CLAIM.to_owned(),
            resource_claim_template_name: Some(template.clone()),
            ..PodResourceClaim::default()
        }]
    };
    Ok(PodSpec {
        affinity: away_from(attempt.excluded_nodes, placed.affinity),
        automount_service_account_token: Some(has_account),
        containers: vec![container::command(attempt, facts)?],
        // Otherwise every Service of the namespace is in the command's environment.
        enable_service_links: Some(false),
        image_pull_secrets: non_empty(
            kubernetes
                .image_pull_secrets
                .iter()
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        init_containers: Some(vec![container::agent(facts)]),
        node_selector: Some(placed.node_selector).filter(|selector| !selector.is_empty()),
        priority_class_name: kubernetes.priority_class.clone(),
        resource_claims: kubernetes.gpu_claim_template.as_ref().map(claim),
        restart_policy: Some("Never".to_owned()),
        security_context: Some(own_context.unwrap_or_else(restricted_pod)),
        service_account_name: kubernetes.service_account.clone(),
        // The Service of the same name gives its processes host names.
        subdomain: attempt.group()?.map(|_| attempt.name()),
        termination_grace_period_seconds: Some(attempt.termination_s()),
        tolerations: non_empty(placed.tolerations),
        topology_spread_constraints: non_empty(placed.topology_spread_constraints),
        volumes: Some(volumes::volumes(kubernetes)),
        ..PodSpec::default()
    })
}

/// Where a pod may run: what the job says, on top of the presets that it chooses.
#[derive(Debug, Default)]
struct Placed {
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
    affinity: Option<Affinity>,
    topology_spread_constraints: Vec<TopologySpreadConstraint>,
}

impl Placed {
    fn of(attempt: &Attempt<'_>, facts: &Facts) -> Result<Self, Invalid> {
        let kubernetes = attempt.kubernetes;
        let mut placed = Self::default();
        for preset in presets(attempt, facts)? {
            placed.node_selector.extend(preset.node_selector.clone());
            placed.tolerations.extend(each("tolerations", &preset.tolerations)?);
            placed.affinity = parsed("affinity", preset.affinity.as_ref())?.or(placed.affinity);
        }
        let KubernetesSpec { node_selector, tolerations, affinity, topology_spread_constraints, .. } =
            kubernetes;
        placed.node_selector.extend(node_selector.clone());
        placed.tolerations.extend(each("tolerations", tolerations)?);
        placed.affinity = parsed("affinity", affinity.as_ref())?.or(placed.affinity);
        placed.topology_spread_constraints =
            each("topology_spread_constraints", topology_spread_constraints)?;
        Ok(placed)
    }
}

/// The affinity, with no place on these nodes. Required terms are alternatives, each of which gets the
/// exclusions.
fn away_from(nodes: &[String], affinity: Option<Affinity>) -> Option<Affinity> {
    if nodes.is_empty() {
        return affinity;
    }
    // Such a requirement takes one name.
    let exclusion = |node: &String| NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(vec![node.clone()]),
    };
    let mut affinity = affinity.unwrap_or_default();
    let of_nodes = affinity.node_affinity.get_or_insert_default();
    let required = of_nodes.required_during_scheduling_ignored_during_execution.get_or_insert_default();
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields.get_or_insert_default().extend(nodes.iter().map(exclusion));
    }
    Some(affinity)
}

/// The presets that a job chooses, in the order in which later ones win.
fn presets<'facts>(attempt: &Attempt<'_>, facts: &'facts Facts) -> Result<Vec<&'facts Placement>, Invalid> {
    let kubernetes = attempt.kubernetes;
    let mut chosen = Vec::new();
    if attempt.has_gpus() {
        chosen.push(&facts.presets.gpu);
    }
    if let Some(name) = &kubernetes.gpu_type {
        let known = &facts.presets.gpu_types;
        chosen.push(known.get(name).ok_or_else(|| {
            let names: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
            let expected = match names.is_empty() {
                true => "this launcher has no presets for kinds of GPUs".to_owned(),
                false => format!("expected one of {}", names.join(", ")),
            };
            Invalid::new("gpu_type", format!("`{name}` is unknown; {expected}"))
        })?);
    }
    if kubernetes.spot {
        chosen.push(&facts.presets.spot);
    }
    Ok(chosen)
}
