//! What a user submits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distributed::Group;
use super::kubernetes::KubernetesSpec;
use super::variable::check_variable_name;
use crate::{Invalid, invalid::ensure, path::check_relative};

const MAX_NAME_BYTES: usize = 250;
const MAX_COMMAND_BYTES: usize = 128 * 1024;
const MAX_ENTRIES: usize = 1_000;
const MAX_FILES_BYTES: usize = 8 * 1024 * 1024;
const MAX_RETRIES: u32 = 100;
const MAX_DISRUPTIONS: u32 = 10_000;
const DEFAULT_DISRUPTION_LIMIT: u32 = 100;
const DEFAULT_SYSTEM_LIMIT: u32 = 5;
/// A command that ends with it asks for no further attempt.
const PERMANENT_EXIT_CODE: i32 = 42;
const MAX_BACKOFF_MS: u64 = 24 * 3_600 * 1_000;
const MAX_KEEP: u32 = 1_000;
const MAX_TIMEOUT_S: f64 = 30.0 * 24.0 * 3_600.0;
const MAX_GRACE_S: f64 = 3_600.0;
const MAX_CPUS: f64 = 4_096.0;
const MAX_GPUS: u32 = 1_024;
/// Names the experiment that clients of MLflow log to.
const EXPERIMENT_VARIABLE: &str = "MLFLOW_EXPERIMENT_ID";

/// A training job as submitted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// For people; need not be unique.
    pub name: String,
    /// Program and arguments, run without a shell.
    pub command: Vec<String>,
    /// Added to the process's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Text files put into the work directory, by relative path.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// What it needs of a machine.
    #[serde(default)]
    pub resources: Resources,
    /// What happens when the command fails.
    #[serde(default)]
    pub retries: Retries,
    /// Absent: nothing is saved or restored.
    #[serde(default)]
    pub checkpoint: Option<CheckpointSpec>,
    /// Longest time that one attempt may run, seconds. Absent: no limit.
    #[serde(default)]
    pub timeout_s: Option<f64>,
    /// Time between SIGTERM and SIGKILL, seconds.
    #[serde(default = "default_grace_s")]
    pub grace_period_s: f64,
    /// For people and filters.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it asks of Kubernetes. Absent: it runs on a launcher's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesSpec>,
    /// The experiment that it logs to, by its id: whoever may read that may read the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment_id: Option<String>,
    /// The same key submitted again answers with the same job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

fn default_grace_s() -> f64 {
    30.0
}

/// What a job needs of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// CPU cores.
    pub cpus: f64,
    /// Memory in bytes; 0: no say.
    pub memory_bytes: u64,
    /// GPUs.
    pub gpus: u32,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: 1.0, memory_bytes: 0, gpus: 0 }
    }
}

impl Resources {
    /// Threads that keep the CPU cores busy.
    pub fn threads(&self) -> u32 {
        self.cpus.ceil().max(1.0) as u32
    }
}

/// What happens when an attempt fails. Each of three causes has a budget of its own: the command, disruptions
/// (an eviction, a preemption, a lost machine), and the platform itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// Attempts whose command may fail, beside the last one.
    pub limit: u32,
    /// Attempts that may be lost to disruptions.
    pub disruption_limit: u32,
    /// Attempts that may be lost to the platform.
    pub system_limit: u32,
    /// Exit codes of the command after which no attempt follows.
    pub permanent_exit_codes: Vec<i32>,
    /// Memory of all further attempts once one ran out of memory, bytes; the first of them is not one of
    /// `limit`. Absent: as much as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_memory_bytes: Option<u64>,
    /// Wait before the first retry, milliseconds; doubles with each.
    pub backoff_initial_ms: u64,
    /// Longest wait, milliseconds.
    pub backoff_max_ms: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            limit: 0,
            disruption_limit: DEFAULT_DISRUPTION_LIMIT,
            system_limit: DEFAULT_SYSTEM_LIMIT,
            permanent_exit_codes: vec![PERMANENT_EXIT_CODE],
            oom_memory_bytes: None,
            backoff_initial_ms: 1_000,
            backoff_max_ms: 60_000,
        }
    }
}

impl Retries {
    /// Wait before retry number `retry` (from 1), milliseconds: half of the doubled wait is certain, half is
    /// scaled by `jitter` in [0, 1) so that jobs which failed together do not return together.
    pub fn backoff_ms(&self, retry: u32, jitter: f64) -> u64 {
        let doublings = retry.saturating_sub(1).min(63);
        let doubled = self.backoff_initial_ms.saturating_mul(1_u64 << doublings).min(self.backoff_max_ms);
        let half = doubled / 2;
        doubled - half + (half as f64 * jitter.clamp(0.0, 1.0)) as u64
    }
}

/// Where the command leaves checkpoints and how many are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSpec {
    /// Directory inside the work directory.
    #[serde(default = "default_checkpoint_dir")]
    pub dir: String,
    /// Newest complete checkpoints to keep.
    #[serde(default = "default_keep")]
    pub keep: u32,
    /// Name of a file that a command puts into a checkpoint's folder as the last one. A folder without it is
    /// not complete. Absent: a folder is complete once it was renamed into place, or once it no longer
    /// changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// Whether each process of a distributed job that trains saves a part: a checkpoint is complete when all
    /// have. Otherwise the first process saves all of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sharded: bool,
    /// Whether a checkpoint can be read by another number of processes than wrote it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resharding: bool,
    /// Step with which the training ends, from which its progress follows; absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u64>,
}

fn default_checkpoint_dir() -> String {
    "checkpoints".to_owned()
}

fn default_keep() -> u32 {
    3
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self {
            dir: default_checkpoint_dir(),
            keep: default_keep(),
            marker: None,
            sharded: false,
            resharding: false,
            total_steps: None,
        }
    }
}

impl JobSpec {
    /// Checks every field; the complaint names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        ensure(!self.name.is_empty() && self.name.len() <= MAX_NAME_BYTES, "name", || {
            format!("must be 1 to {MAX_NAME_BYTES} bytes long")
        })?;
        self.validate_command()?;
        self.validate_env()?;
        self.validate_files()?;
        self.validate_limits()?;
        self.validate_experiment()?;
        self.validate_kubernetes()?;
        ensure(self.labels.len() <= MAX_ENTRIES, "labels", || format!("must be at most {MAX_ENTRIES}"))?;
        if let Some(checkpoint) = &self.checkpoint {
            check_relative(&checkpoint.dir).map_err(|why| Invalid::new("checkpoint.dir", why))?;
            ensure((1..=MAX_KEEP).contains(&checkpoint.keep), "checkpoint.keep", || {
                format!("must be 1 to {MAX_KEEP}, is {}", checkpoint.keep)
            })?;
            let marker = checkpoint.marker.as_deref().unwrap_or("marker");
            check_relative(marker).map_err(|why| Invalid::new("checkpoint.marker", why))?;
            ensure(!marker.contains('/'), "checkpoint.marker", || {
                format!("must be the name of a file, is '{marker}'")
            })?;
            ensure(checkpoint.total_steps != Some(0), "checkpoint.total_steps", || {
                "must be at least 1, is 0".to_owned()
            })?;
            ensure(!checkpoint.sharded || self.group().is_some(), "checkpoint.sharded", || {
                "expected a distributed job: its kubernetes.replicas have one process".to_owned()
            })?;
        }
        let key_length = self.idempotency_key.as_ref().map_or(1, String::len);
        ensure((1..=MAX_NAME_BYTES).contains(&key_length), "idempotency_key", || {
            format!("must be 1 to {MAX_NAME_BYTES} bytes long")
        })
    }

    /// How much of its steps are done with a checkpoint of this step, percent from 0 to 100; `None` where the
    /// job does not say how many there are.
    pub fn progress_percent(&self, step: Option<u64>) -> Option<u32> {
        let total = self.checkpoint.as_ref()?.total_steps?.max(1);
        let done = u128::from(step.unwrap_or(0).min(total)) * 100 / u128::from(total);
        u32::try_from(done).ok()
    }

    /// Its processes, where there are several.
    pub fn group(&self) -> Option<Group> {
        self.kubernetes.as_ref().and_then(|kubernetes| Group::of(&kubernetes.replicas).ok()?)
    }

    /// Whether it has several processes that Kubernetes schedules one by one, so that two such jobs could
    /// wait for each other. A queue admits all processes of a job together.
    pub fn is_gang(&self) -> bool {
        let is_queued = self.kubernetes.as_ref().is_some_and(|kubernetes| kubernetes.queue.is_some());
        self.group().is_some() && !is_queued
    }

    fn validate_kubernetes(&self) -> Result<(), Invalid> {
        let Some(kubernetes) = &self.kubernetes else { return Ok(()) };
        kubernetes.validate().map_err(|invalid| invalid.under("kubernetes"))?;
        let both = self.resources.gpus > 0 && kubernetes.gpu_claim_template.is_some();
        ensure(!both, "kubernetes.gpu_claim_template", || {
            format!("claims GPUs in place of resources.gpus, which is {}", self.resources.gpus)
        })
    }

    fn validate_experiment(&self) -> Result<(), Invalid> {
        let Some(id) = &self.experiment_id else { return Ok(()) };
        let is_id = |number: &i64| *number >= 0 && number.to_string() == *id;
        ensure(id.parse().is_ok_and(|number| is_id(&number)), "experiment_id", || {
            format!("must be the id of an experiment, a number, is '{id}'")
        })?;
        let logged_to = self.env.get(EXPERIMENT_VARIABLE).unwrap_or(id);
        ensure(logged_to == id, &format!("env.{EXPERIMENT_VARIABLE}"), || {
            format!("must be the job's experiment_id {id}, is '{logged_to}'")
        })
    }

    /// The spec of a job that logs to its experiment without further ado: clients of MLflow in it are told.
    #[must_use]
    pub fn logging_to_its_experiment(mut self) -> Self {
        if let Some(id) = &self.experiment_id {
            self.env.insert(EXPERIMENT_VARIABLE.to_owned(), id.clone());
        }
        self
    }

    fn validate_command(&self) -> Result<(), Invalid> {
        ensure(!self.command.is_empty(), "command", || "must name a program".into())?;
        ensure(!self.command[0].is_empty(), "command[0]", || "must name a program".into())?;
        let bytes: usize = self.command.iter().map(|argument| argument.len() + 1).sum();
        ensure(bytes <= MAX_COMMAND_BYTES, "command", || {
            format!("must be at most {MAX_COMMAND_BYTES} bytes")
        })?;
        for (index, argument) in self.command.iter().enumerate() {
            ensure(!argument.contains('\0'), &format!("command[{index}]"), || {
                "must not hold a NUL character".into()
            })?;
        }
        Ok(())
    }

    fn validate_env(&self) -> Result<(), Invalid> {
        ensure(self.env.len() <= MAX_ENTRIES, "env", || format!("must be at most {MAX_ENTRIES}"))?;
        for (name, value) in &self.env {
            let field = format!("env.{name}");
            check_variable_name(&field, name)?;
            ensure(!value.contains('\0'), &field, || "must not hold a NUL character".into())?;
        }
        Ok(())
    }

    fn validate_files(&self) -> Result<(), Invalid> {
        ensure(self.files.len() <= MAX_ENTRIES, "files", || format!("must be at most {MAX_ENTRIES}"))?;
        for path in self.files.keys() {
            check_relative(path).map_err(|why| Invalid::new(format!("files[{path:?}]"), why))?;
            let parent = self
                .files
                .keys()
                .find(|other| path.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/')));
            ensure(parent.is_none(), &format!("files[{path:?}]"), || {
                "lies under a path that is a file".into()
            })?;
        }
        let bytes: usize = self.files.values().map(String::len).sum();
        ensure(bytes <= MAX_FILES_BYTES, "files", || {
            format!("must be at most {MAX_FILES_BYTES} bytes together, are {bytes}")
        })
    }

    fn validate_budgets(&self) -> Result<(), Invalid> {
        let Retries { limit, disruption_limit, system_limit, permanent_exit_codes, .. } = &self.retries;
        for (field, limit, most) in [
            ("limit", limit, MAX_RETRIES),
            ("disruption_limit", disruption_limit, MAX_DISRUPTIONS),
            ("system_limit", system_limit, MAX_RETRIES),
        ] {
            ensure(*limit <= most, &format!("retries.{field}"), || {
                format!("must be at most {most}, is {limit}")
            })?;
        }
        for (index, code) in permanent_exit_codes.iter().enumerate() {
            ensure((1..=255).contains(code), &format!("retries.permanent_exit_codes[{index}]"), || {
                format!("must be 1 to 255, is {code}")
            })?;
        }
        let memory_bytes = self.resources.memory_bytes;
        let is_more = |bytes: u64| memory_bytes > 0 && bytes > memory_bytes;
        ensure(self.retries.oom_memory_bytes.is_none_or(is_more), "retries.oom_memory_bytes", || {
            format!("must be above resources.memory_bytes, which must be set and is {memory_bytes}")
        })?;
        let count = permanent_exit_codes.len();
        ensure(count <= 255, "retries.permanent_exit_codes", || format!("must be at most 255, are {count}"))
    }

    fn validate_limits(&self) -> Result<(), Invalid> {
        let Resources { cpus, gpus, .. } = self.resources;
        ensure(cpus > 0.0 && cpus <= MAX_CPUS, "resources.cpus", || {
            format!("must be above 0 and at most {MAX_CPUS}, is {cpus}")
        })?;
        ensure(gpus <= MAX_GPUS, "resources.gpus", || format!("must be at most {MAX_GPUS}, is {gpus}"))?;
        let Retries { backoff_initial_ms, backoff_max_ms, .. } = self.retries;
        self.validate_budgets()?;
        ensure(backoff_max_ms <= MAX_BACKOFF_MS, "retries.backoff_max_ms", || {
            format!("must be at most {MAX_BACKOFF_MS}, is {backoff_max_ms}")
        })?;
        ensure(backoff_initial_ms <= backoff_max_ms, "retries.backoff_initial_ms", || {
            format!("must be at most backoff_max_ms ({backoff_max_ms}), is {backoff_initial_ms}")
        })?;
        let timeout_s = self.timeout_s.unwrap_or(1.0);
        ensure(timeout_s > 0.0 && timeout_s <= MAX_TIMEOUT_S, "timeout_s", || {
            format!("must be above 0 and at most {MAX_TIMEOUT_S}, is {timeout_s}")
        })?;
        ensure((0.0..=MAX_GRACE_S).contains(&self.grace_period_s), "grace_period_s", || {
            format!("must be 0 to {MAX_GRACE_S}, is {}", self.grace_period_s)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_known_where_the_job_says_how_many_steps_there_are() {
        let of = |total_steps, step| {
            let checkpoint = Some(CheckpointSpec { total_steps, ..CheckpointSpec::default() });
            JobSpec { checkpoint, ..JobSpec::default() }.progress_percent(step)
        };
        assert_eq!(of(None, Some(7)), None);
        assert_eq!(of(Some(1_000), None), Some(0));
        assert_eq!(of(Some(1_000), Some(429)), Some(42));
        assert_eq!(of(Some(1_000), Some(5_000)), Some(100));
        assert_eq!(of(Some(u64::MAX), Some(u64::MAX)), Some(100));
        assert_eq!(JobSpec::default().progress_percent(Some(7)), None);
        let refused = JobSpec {
            name: "train".to_owned(),
            command: vec!["true".to_owned()],
            checkpoint: Some(CheckpointSpec { total_steps: Some(0), ..CheckpointSpec::default() }),
            ..JobSpec::default()
        };
        assert_eq!(refused.validate().unwrap_err().field, "checkpoint.total_steps");
    }
}
