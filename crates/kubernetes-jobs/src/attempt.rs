//! An attempt, and what its objects have in common.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use slipway_domain::Invalid;
use slipway_domain::training::{AGENT_SPARE_MS, Group, JobSpec, KubernetesSpec};

use crate::facts::Facts;
use crate::names;

/// An attempt that is to run.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'attempt> {
    /// Id of the job, a UUID.
    pub job_id: &'attempt str,
    /// Its number, from 1.
    pub attempt: u32,
    /// The job.
    pub spec: &'attempt JobSpec,
    /// What the job asks of Kubernetes.
    pub kubernetes: &'attempt KubernetesSpec,
    /// Environment of the agent, without its secrets.
    pub variables: &'attempt BTreeMap<String, String>,
    /// Variables of the agent whose values are in the attempt's Secret, under the same names.
    pub secret_variables: &'attempt [&'attempt str],
    /// Names of nodes on which it must not run.
    pub excluded_nodes: &'attempt [String],
}

impl Attempt<'_> {
    /// Name of the attempt's objects.
    pub fn name(&self) -> String {
        names::name(&self.spec.name, self.job_id, self.attempt)
    }

    /// Namespace of the attempt's objects.
    pub fn namespace<'out>(&'out self, facts: &'out Facts) -> &'out str {
        self.kubernetes.namespace.as_deref().unwrap_or(&facts.namespace)
    }

    /// The processes of a distributed job; `None` for one process.
    pub(crate) fn group(&self) -> Result<Option<Group>, Invalid> {
        Group::of(&self.kubernetes.replicas)
    }

    /// Whether the job asks for GPUs, counted or claimed.
    pub(crate) fn has_gpus(&self) -> bool {
        self.spec.resources.gpus > 0 || self.kubernetes.gpu_claim_template.is_some()
    }

    /// Time between the SIGTERM and the SIGKILL of its pod, seconds: the command's grace period, and what the
    /// agent needs after it for the last checkpoint.
    #[expect(clippy::cast_possible_truncation, reason = "validated to be at most an hour")]
    pub(crate) fn termination_s(&self) -> i64 {
        let spare_s = i64::try_from(AGENT_SPARE_MS / 1_000).unwrap_or(i64::MAX);
        (self.spec.grace_period_s.ceil() as i64).saturating_add(spare_s)
    }

    pub(crate) fn metadata(&self, facts: &Facts) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name()),
            namespace: Some(self.namespace(facts).to_owned()),
            labels: Some(self.labels(facts)),
            annotations: self.annotations(),
            ..ObjectMeta::default()
        }
    }

    pub(crate) fn labels(&self, facts: &Facts) -> BTreeMap<String, String> {
        names::labels(&self.kubernetes.labels, &facts.installation, self.job_id, self.attempt)
    }

    pub(crate) fn annotations(&self) -> Option<BTreeMap<String, String>> {
        Some(self.kubernetes.annotations.clone()).filter(|annotations| !annotations.is_empty())
    }
}
