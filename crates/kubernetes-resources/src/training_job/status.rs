//! The `status` of a TrainingJob.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slipway_api::rest::launcher::{self, JobStatus};
use utoipa::ToSchema;

use crate::Condition;

/// So many attempts are in the status; `slipway jobs show` has all.
pub(super) const MAX_ATTEMPTS: usize = 10;

/// What has become of the job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// Generation of the resource that the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// ID of the job, for `slipway jobs show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Phase of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Cause of the phase.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Number of the current or last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Attempts whose command failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Attempts lost to evictions, preemptions and lost nodes.
    #[serde(skip_serializing_if = "is_zero")]
    pub disruptions: u32,
    /// Attempts lost for a reason in the platform.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_failures: u32,
    /// Step of the newest checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Progress, e.g. `42%`, if the job sets `checkpoint.totalSteps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// When the job was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<DateTime<Utc>>,
    /// When the job ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// The last attempts, oldest first; at most 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Value of `suspend` that was applied last.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Conditions: `Accepted`, `Running`, `Suspended`, `Complete`, `Failed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Phase of a TrainingJob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Phase {
    /// The job was not accepted; the condition `Accepted` says why.
    Refused,
    /// Waits for capacity.
    Queued,
    /// An attempt waits for its node, image or queue.
    Pending,
    /// An attempt runs.
    Running,
    /// An attempt failed, and another follows.
    Retrying,
    /// An attempt is being stopped; the job then is cancelled.
    Cancelling,
    /// An attempt is being stopped; the job then is suspended.
    Suspending,
    /// Has no attempt until it is resumed.
    Suspended,
    /// The command exited with 0.
    Succeeded,
    /// No further attempt follows.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl From<JobStatus> for Phase {
    fn from(status: JobStatus) -> Self {
        match status {
            JobStatus::Queued => Self::Queued,
            JobStatus::Pending => Self::Pending,
            JobStatus::Running => Self::Running,
            JobStatus::Retrying => Self::Retrying,
            JobStatus::Cancelling => Self::Cancelling,
            JobStatus::Suspending => Self::Suspending,
            JobStatus::Suspended => Self::Suspended,
            JobStatus::Succeeded => Self::Succeeded,
            JobStatus::Failed => Self::Failed,
            JobStatus::Cancelled => Self::Cancelled,
        }
    }
}

/// An attempt to run the command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Attempt {
    /// Number, from 1.
    pub number: i32,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Exit code of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Step of the checkpoint that it resumed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_step: Option<u64>,
    /// Time of the previous attempt that was lost, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_milliseconds: Option<u64>,
}

impl From<&launcher::Attempt> for Attempt {
    fn from(attempt: &launcher::Attempt) -> Self {
        Self {
            number: attempt.number,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            reason: attempt.reason.clone(),
            exit_code: attempt.exit_code,
            restored_step: attempt.restored_step,
            lost_milliseconds: attempt.lost_ms,
        }
    }
}
