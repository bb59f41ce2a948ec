//! Rows as the bodies of the REST API.

use chrono::DateTime;
use slipway_api::rest::launcher::{Attempt, Checkpoint, CheckpointDetails, Job, Process, Waiting};
use slipway_domain::training::{Group, Status};

use crate::store::attempts::StoredAttempt;
use crate::store::checkpoints::StoredCheckpoint;
use crate::store::jobs::StoredJob;
use crate::store::processes::StoredProcess;

/// An item of a list.
pub(crate) fn listed(waiting: Option<Waiting>, job: StoredJob) -> Job {
    job_body(waiting, job, None)
}

/// The job with its specification and attempts.
pub(crate) fn detailed(
    waiting: Option<Waiting>,
    job: StoredJob,
    attempts: Vec<StoredAttempt>,
    processes: &[StoredProcess],
) -> Job {
    let group = job.spec.group();
    let of = |attempt: i32| processes.iter().filter(move |process| process.attempt == attempt);
    let detailed = |stored: StoredAttempt| {
        // An attempt from before a resumption with other replicas had other roles.
        let count = u32::try_from(of(stored.number).count()).ok();
        let group = group.as_ref().filter(|group| Some(group.processes()) == count);
        let processes = of(stored.number).map(|of| process(group, of)).collect();
        Attempt { processes, ..attempt(stored) }
    };
    let attempts = attempts.into_iter().map(detailed).collect();
    job_body(waiting, job, Some(attempts))
}

fn process(group: Option<&Group>, stored: &StoredProcess) -> Process {
    let number = u32::try_from(stored.number).unwrap_or_default();
    let role = group.and_then(|group| group.role_of(number));
    let role = role.map(|(role, index)| format!("{role} {index}"));
    Process {
        number,
        role: role.unwrap_or_default(),
        ready: stored.ready,
        ended_at: stored.ended_at,
        exit_code: stored.exit_code,
        signal: stored.signal,
    }
}

fn job_body(waiting: Option<Waiting>, job: StoredJob, attempts: Option<Vec<Attempt>>) -> Job {
    let retry_at = job.state.retry_at_unix_ms().and_then(|at| i64::try_from(at).ok());
    Job {
        id: job.id.to_string(),
        name: job.spec.name.clone(),
        status: job.state.status().into(),
        reason: job.state.reason().to_owned(),
        attempt: job.state.attempt(),
        failures: job.state.failures(),
        disruptions: job.state.disruptions(),
        system_failures: job.state.system_failures(),
        checkpoint_step: job.checkpoint_step,
        progress_percent: job.spec.progress_percent(match job.state.status() {
            Status::Succeeded => Some(u64::MAX),
            _ => job.checkpoint_step,
        }),
        labels: job.spec.labels.clone(),
        created_at: job.created_at,
        updated_at: job.updated_at,
        memory_bytes: job.state.memory_bytes(),
        excluded_nodes: job.state.excluded_nodes().to_vec(),
        finished_at: job.finished_at,
        waiting,
        retry_at: retry_at.and_then(DateTime::from_timestamp_millis),
        warnings: attempts
            .as_ref()
            .map(|attempts| attempts.last().map(|last| last.warnings.clone()).unwrap_or_default()),
        spec: attempts.is_some().then(|| job.spec.into()),
        attempts,
    }
}

fn attempt(attempt: StoredAttempt) -> Attempt {
    Attempt {
        number: attempt.number,
        reason: attempt.reason,
        exit_code: attempt.exit_code,
        signal: attempt.signal,
        started_at: attempt.started_at,
        ended_at: attempt.ended_at,
        cores: attempt.cores,
        gpus: attempt.gpus,
        warnings: attempt.warnings,
        node: attempt.node,
        restored_step: attempt.restored_step.and_then(|step| u64::try_from(step).ok()),
        lost_ms: attempt.lost_ms.and_then(|lost_ms| u64::try_from(lost_ms).ok()),
        processes: Vec::new(),
    }
}

/// An item of a list of checkpoints.
pub(crate) fn checkpoint(stored: &StoredCheckpoint) -> Checkpoint {
    Checkpoint::new(&stored.manifest, stored.committed_at)
}

/// The checkpoint with its files.
pub(crate) fn checkpoint_details(stored: StoredCheckpoint) -> CheckpointDetails {
    CheckpointDetails {
        checkpoint: checkpoint(&stored),
        files: stored.manifest.files.into_iter().map(Into::into).collect(),
    }
}
