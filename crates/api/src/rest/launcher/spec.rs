//! A job as clients submit it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slipway_domain::training;
use utoipa::ToSchema;

use super::kubernetes::KubernetesSpec;
use crate::rest::convert::{mirror, mirror_nested, option};

/// A training job as submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Display name, 1 to 250 bytes; need not be unique.
    #[schema(example = "train")]
    pub name: String,
    /// Program and arguments, run without a shell.
    #[schema(example = json!(["python3", "train.py"]))]
    pub command: Vec<String>,
    /// Environment variables of the command, in addition to those of the agent. Names with the prefix
    /// `SLIPWAY_` are reserved.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Text files to create in the work directory: relative path → content.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Resources to reserve.
    #[serde(default)]
    pub resources: Resources,
    /// Retries of a command that fails.
    #[serde(default)]
    pub retries: Retries,
    /// If unset, no checkpoints are stored or restored.
    #[serde(default)]
    pub checkpoint: Option<CheckpointSpec>,
    /// Time limit of each attempt, in seconds [default: unlimited].
    #[serde(default)]
    pub timeout_s: Option<f64>,
    /// Time between SIGTERM and SIGKILL, in seconds [default: 30].
    #[serde(default = "default_grace_period_s")]
    pub grace_period_s: f64,
    /// Labels for filters and display.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Runs the job on Kubernetes. If unset, it runs on a launcher's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesSpec>,
    /// ID of the experiment that the job logs to, passed to the command as `MLFLOW_EXPERIMENT_ID`. A role on
    /// the experiment is a role on the job: viewers read it and its logs, editors cancel it. [default: none;
    /// the job requires a role on everything]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "1")]
    pub experiment_id: Option<String>,
    /// A submission with the same key returns the same job. The header `Idempotency-Key` is equivalent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

const fn default_grace_period_s() -> f64 {
    30.0
}

/// What a job reserves of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// CPU cores [default: 1].
    pub cpus: f64,
    /// Memory in bytes; 0 reserves none [default: 0].
    pub memory_bytes: u64,
    /// GPUs [default: 0].
    pub gpus: u32,
}

/// Retries after an attempt that fails or is lost. Failures of the command, disruptions and failures of the
/// platform have separate limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// Retries of a command that fails, 0 to 100 [default: 0].
    pub limit: u32,
    /// Retries after a disruption: an eviction, a preemption, a lost machine; 0 to 10000 [default: 100].
    pub disruption_limit: u32,
    /// Retries after an agent ended or did not start for a reason in the platform, 0 to 100 [default: 5].
    pub system_limit: u32,
    /// Exit codes of the command after which the job fails without a retry, 1 to 255 [default: 42].
    pub permanent_exit_codes: Vec<i32>,
    /// Memory of all further attempts after one ran out of memory, in bytes; must exceed
    /// `resources.memory_bytes`. The first of them does not count toward `limit`. [default: no such retry]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_memory_bytes: Option<u64>,
    /// Backoff before the first retry, in milliseconds; doubles with each retry [default: 1000].
    pub backoff_initial_ms: u64,
    /// Maximum backoff, in milliseconds [default: 60000].
    pub backoff_max_ms: u64,
}

/// Where the command writes checkpoints, and how many are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSpec {
    /// Directory inside the work directory [default: checkpoints].
    #[serde(default = "default_dir")]
    pub dir: String,
    /// Number of newest complete checkpoints to keep, 1 to 1000 [default: 3].
    #[serde(default = "default_keep")]
    pub keep: u32,
    /// Name of the file that the command writes last into a checkpoint's folder. If unset, a folder is
    /// complete once it was renamed into place, or no longer changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// Each process of a distributed job that trains saves a part; a checkpoint is complete when all have.
    /// Otherwise, process 0 saves all of it. [default: false]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sharded: bool,
    /// A checkpoint can be read by a different number of processes than wrote it [default: false].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resharding: bool,
    /// Step with which the training ends; the job then shows its progress [default: unknown].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u64>,
}

fn default_dir() -> String {
    training::CheckpointSpec::default().dir
}

fn default_keep() -> u32 {
    training::CheckpointSpec::default().keep
}

impl Default for Resources {
    fn default() -> Self {
        training::Resources::default().into()
    }
}

impl Default for Retries {
    fn default() -> Self {
        training::Retries::default().into()
    }
}

mirror!(Resources = training::Resources { cpus, memory_bytes, gpus });
mirror!(
    Retries = training::Retries {
        limit,
        disruption_limit,
        system_limit,
        permanent_exit_codes,
        oom_memory_bytes,
        backoff_initial_ms,
        backoff_max_ms
    }
);
/// How a suspended job is resumed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobResumption {
    /// Numbers of processes of a distributed job by role, in place of those of `kubernetes.replicas`. Another
    /// number of processes that train requires `checkpoint.resharding`. [default: as before]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<BTreeMap<String, u32>>,
}

mirror!(CheckpointSpec = training::CheckpointSpec { dir, keep, marker, sharded, resharding, total_steps });

mirror_nested!(JobSpec = training::JobSpec {
    name, command, env, files, timeout_s, grace_period_s, labels, experiment_id, idempotency_key,
} resources: Into::into, retries: Into::into, checkpoint: option, kubernetes: option);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_means_what_the_same_json_means_to_the_domain() {
        for body in [
            json!({"name": "a", "command": ["true"]}),
            json!({"name": "a", "command": ["true"],
                "checkpoint": {"sharded": true, "resharding": true, "total_steps": 9},
                "retries": {"limit": 2, "oom_memory_bytes": 9}, "resources": {"cpus": 0.5},
                "timeout_s": 3.5, "experiment_id": "3", "idempotency_key": "k"}),
            json!({"name": "a", "command": ["true"], "kubernetes": {"image": "train:1",
                "image_pull_policy": "Always", "replicas": {"worker": 2}, "port": 1234,
                "env_from": [{"secret": "s", "prefix": "P_"}],
                "env_refs": {"TOKEN": {"config_map": "c", "key": "k"}},
                "volumes": [{"mount_path": "/d", "empty_dir": {"memory": true}}],
                "tolerations": [{"key": "gpu", "operator": "Exists"}], "affinity": {"nodeAffinity": {}},
                "spot": true, "ttl_s": 5}}),
        ] {
            let typed: JobSpec = serde_json::from_value(body.clone()).unwrap();
            let domain: training::JobSpec = serde_json::from_value(body).unwrap();
            assert_eq!(training::JobSpec::from(typed.clone()), domain);
            assert_eq!(json!(typed), json!(domain), "and it is written the same way");
            assert_eq!(JobSpec::from(domain), typed);
        }
    }
}
