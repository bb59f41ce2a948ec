//! A job as the launcher shows it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slipway_domain::training;
use utoipa::ToSchema;

use super::spec::JobSpec;
use crate::rest::convert::mirror_enum;

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Waits for capacity.
    Queued,
    /// An attempt waits for its node, image or queue on Kubernetes; `reason` says for which.
    Pending,
    /// An attempt runs.
    Running,
    /// An attempt failed; the next one waits for its backoff and for capacity.
    Retrying,
    /// An attempt is being stopped.
    Cancelling,
    /// An attempt is being stopped; the job then is suspended.
    Suspending,
    /// Has no attempt and holds no resources until it is resumed.
    Suspended,
    /// The command exited with 0.
    Succeeded,
    /// No further attempt follows; `reason` has the cause.
    Failed,
    /// Ended on request.
    Cancelled,
}

mirror_enum!(
    JobStatus = training::Status {
        Queued,
        Pending,
        Running,
        Retrying,
        Cancelling,
        Suspending,
        Suspended,
        Succeeded,
        Failed,
        Cancelled
    }
);

impl JobStatus {
    /// Whether the job has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl std::fmt::Display for JobStatus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(training::Status::from(*self).as_str())
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Job ID, a UUID.
    pub id: String,
    /// Display name.
    pub name: String,
    /// State.
    pub status: JobStatus,
    /// Cause of the state; empty where there is nothing to explain.
    pub reason: String,
    /// Number of the current or last attempt; 0 before the first.
    pub attempt: u32,
    /// Attempts whose command failed.
    pub failures: u32,
    /// Attempts lost to disruptions: an eviction, a preemption, a lost machine.
    pub disruptions: u32,
    /// Attempts lost because their agent ended or did not start, for a reason in the platform.
    #[serde(default)]
    pub system_failures: u32,
    /// Step of the newest committed checkpoint.
    pub checkpoint_step: Option<u64>,
    /// Progress in percent: `checkpoint_step` of `checkpoint.total_steps`, and 100 after a success; absent if
    /// the job does not set `checkpoint.total_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_percent: Option<u32>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Memory of further attempts, in bytes, after one ran out of memory and `retries.oom_memory_bytes` was
    /// set; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Nodes that further attempts avoid, because a GPU of theirs failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_nodes: Vec<String>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What the job waits for; absent unless it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Earliest start of the next attempt, after a failure.
    pub retry_at: Option<DateTime<Utc>>,
    /// Warnings of the last attempt; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<String>>,
    /// The submitted job; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<JobSpec>,
    /// Attempts, oldest first; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<Attempt>>,
}

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// Position in the queue, from 1; absent where the job starts next, or cannot start on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// Explanation.
    pub reason: String,
}

/// An attempt to run the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Number, from 1.
    pub number: i32,
    /// How it ended; empty while it runs and after a success.
    pub reason: String,
    /// Exit code of the command.
    pub exit_code: Option<i32>,
    /// Signal that ended the command.
    pub signal: Option<i32>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// CPU cores that it is bound to; empty for all cores.
    pub cores: Vec<i32>,
    /// GPUs that it is assigned.
    pub gpus: Vec<i32>,
    /// Problems that did not fail the attempt, such as a checkpoint that could not be stored.
    pub warnings: Vec<String>,
    /// Node on which it runs, as in the capacity; absent for attempts of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Step of the checkpoint that it resumed from; absent if it started from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_step: Option<u64>,
    /// Time that the previous attempt had run since that checkpoint, and that was therefore lost, in
    /// milliseconds; absent for the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_ms: Option<u64>,
    /// Processes of a distributed job; absent for one process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
}

/// A process of a distributed job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// Number, from 0.
    pub number: u32,
    /// Role, and number among the processes of that role, e.g. `worker 1`.
    pub role: String,
    /// Whether it has restored its checkpoint; the commands start when all processes have.
    pub ready: bool,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Exit code of its command.
    pub exit_code: Option<i32>,
    /// Signal that ended its command.
    pub signal: Option<i32>,
}

/// A page of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Jobs {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// `page_token` of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}
