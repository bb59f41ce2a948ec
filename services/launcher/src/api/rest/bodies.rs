//! A job as the REST API shows it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use slipway_domain::training::{JobSpec, Status};
use std::collections::BTreeMap;

use crate::store::attempts::StoredAttempt;
use crate::store::checkpoints::StoredCheckpoint;
use crate::store::jobs::StoredJob;
use crate::waiting::Waiting;

/// A job.
#[derive(Debug, Serialize)]
pub(crate) struct JobBody {
    pub(crate) id: String,
    name: String,
    status: Status,
    /// Why, for people; empty where there is nothing to explain.
    reason: String,
    /// Number of the current or last attempt; 0 before the first.
    attempt: u32,
    /// Attempts whose command failed.
    failures: u32,
    /// Attempts lost with their agent.
    disruptions: u32,
    /// Step of the newest committed checkpoint.
    checkpoint_step: Option<u64>,
    labels: BTreeMap<String, String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    /// What it waits for before it starts; absent where it does not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
    /// When the next attempt may start, where one waits for its backoff.
    retry_at: Option<DateTime<Utc>>,
    /// Warnings of the last attempt; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<String>>,
    /// What was submitted; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<JobSpec>,
    /// Attempts, oldest first; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<AttemptBody>>,
}

/// An attempt.
#[derive(Debug, Serialize)]
pub(crate) struct AttemptBody {
    number: i32,
    /// How it ended; empty while it runs and after a success.
    reason: String,
    exit_code: Option<i32>,
    signal: Option<i32>,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    /// CPU cores that it is bound to; none for all of the machine.
    cores: Vec<i32>,
    /// GPUs that it has.
    gpus: Vec<i32>,
    /// What is not as it should be without being a failure, e.g. a checkpoint that could not be stored.
    warnings: Vec<String>,
}

/// A committed checkpoint.
#[derive(Debug, Serialize)]
pub(crate) struct CheckpointBody {
    step: u64,
    attempt: u32,
    manifest_key: String,
    /// What it consists of, as named in the checkpoint folder.
    entries: Vec<String>,
    files: usize,
    size_bytes: u64,
    created_at: DateTime<Utc>,
}

impl JobBody {
    /// A line of a list.
    pub(crate) fn line(waiting: Option<Waiting>, job: StoredJob) -> Self {
        Self::new(waiting, job, None)
    }

    /// The job with all that is known about it.
    pub(crate) fn whole(waiting: Option<Waiting>, job: StoredJob, attempts: Vec<StoredAttempt>) -> Self {
        Self::new(waiting, job, Some(attempts.into_iter().map(AttemptBody::from).collect()))
    }

    fn new(waiting: Option<Waiting>, job: StoredJob, attempts: Option<Vec<AttemptBody>>) -> Self {
        let retry_at = job.state.retry_at_unix_ms().and_then(|at| i64::try_from(at).ok());
        Self {
            id: job.id.to_string(),
            name: job.spec.name.clone(),
            status: job.state.status(),
            reason: job.state.reason().to_owned(),
            attempt: job.state.attempt(),
            failures: job.state.failures(),
            disruptions: job.state.disruptions(),
            checkpoint_step: job.checkpoint_step,
            labels: job.spec.labels.clone(),
            created_at: job.created_at,
            updated_at: job.updated_at,
            finished_at: job.finished_at,
            waiting,
            retry_at: retry_at.and_then(DateTime::from_timestamp_millis),
            warnings: attempts
                .as_ref()
                .map(|attempts| attempts.last().map(|last| last.warnings.clone()).unwrap_or_default()),
            spec: attempts.is_some().then_some(job.spec),
            attempts,
        }
    }
}

impl From<StoredAttempt> for AttemptBody {
    fn from(attempt: StoredAttempt) -> Self {
        Self {
            number: attempt.number,
            reason: attempt.reason,
            exit_code: attempt.exit_code,
            signal: attempt.signal,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            cores: attempt.cores,
            gpus: attempt.gpus,
            warnings: attempt.warnings,
        }
    }
}

impl From<StoredCheckpoint> for CheckpointBody {
    fn from(checkpoint: StoredCheckpoint) -> Self {
        let manifest = checkpoint.manifest;
        Self {
            step: manifest.step,
            attempt: manifest.attempt,
            manifest_key: manifest.key(),
            entries: manifest.entries(),
            files: manifest.files.len(),
            size_bytes: manifest.files.iter().map(|file| file.size_bytes).sum(),
            created_at: checkpoint.committed_at,
        }
    }
}
