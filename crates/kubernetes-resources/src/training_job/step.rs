//! What is to be done about a TrainingJob, and what its status says.

use chrono::{DateTime, Utc};
use slipway_api::rest::launcher::{Job, JobStatus};

use super::TrainingJob;
use super::status::{Attempt, MAX_ATTEMPTS, Phase, Status};
use crate::condition::{Condition, dated};

/// What the controller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Adds the finalizer: from then on the object stays until its job has ended.
    AddFinalizer,
    /// Lets the object go.
    RemoveFinalizer,
    /// Submits the job.
    Submit,
    /// Cancels the job.
    Cancel,
    /// Suspends the job.
    Suspend,
    /// Resumes the job.
    Resume,
}

/// What the launcher has for an object.
#[derive(Debug, Clone, Copy)]
pub enum Submitted<'job> {
    /// Nothing yet.
    Nothing,
    /// A job.
    Job(&'job Job),
    /// It was refused, for this reason.
    Refused(&'job str),
}

/// What to do about an object with this job. A job is suspended and resumed when the field changes, so that
/// a job which was suspended otherwise stays so.
pub fn step(object: &TrainingJob, job: Option<&Job>) -> Step {
    let ended = job.is_some_and(|job| job.status.is_final());
    if object.is_deleted() {
        return match job {
            _ if !object.has_finalizer() => Step::Keep,
            Some(job) if !ended && job.status != JobStatus::Cancelling => Step::Cancel,
            Some(_) if !ended => Step::Keep,
            _ => Step::RemoveFinalizer,
        };
    }
    match (ended, object.has_finalizer()) {
        // Its end is in the status: the object can go without anybody's help.
        (true, true) if object.status.finished_at.is_some() => return Step::RemoveFinalizer,
        (true, _) => return Step::Keep,
        (false, false) => return Step::AddFinalizer,
        (false, true) => {}
    }
    let Some(job) = job else {
        // One that is suspended from the start is not submitted before it is resumed.
        return if object.is_suspended() { Step::Keep } else { Step::Submit };
    };
    match (object.status.suspended, object.is_suspended(), job.status) {
        (false, true, JobStatus::Suspending | JobStatus::Suspended | JobStatus::Cancelling) => Step::Keep,
        (false, true, _) => Step::Suspend,
        (true, false, JobStatus::Suspended) => Step::Resume,
        _ => Step::Keep,
    }
}

/// The status of an object.
pub fn status(object: &TrainingJob, submitted: Submitted<'_>, now: DateTime<Utc>) -> Status {
    let generation = object.metadata.generation;
    let mut status = match submitted {
        Submitted::Nothing if object.is_suspended() => {
            Status { phase: Some(Phase::Suspended), suspended: true, ..Status::default() }
        }
        Submitted::Nothing => Status { suspended: object.status.suspended, ..Status::default() },
        Submitted::Refused(reason) => {
            Status { phase: Some(Phase::Refused), reason: reason.to_owned(), ..Status::default() }
        }
        Submitted::Job(job) => of_job(object, job),
    };
    status.observed_generation = generation;
    status.conditions = dated(conditions(&status, submitted), &object.status.conditions, generation, now);
    status
}

fn of_job(object: &TrainingJob, job: &Job) -> Status {
    let attempts = job.attempts.as_deref().unwrap_or_default();
    let waiting = job.waiting.as_ref().map(|waiting| waiting.reason.clone());
    // It is applied when the job follows, not when it was asked to: a resume waits for the suspension.
    let follows = match (object.is_suspended(), job.status) {
        (true, _) => true,
        (false, JobStatus::Suspending | JobStatus::Suspended) => object.status.suspended,
        (false, _) => false,
    };
    Status {
        job_id: Some(job.id.clone()),
        phase: Some(job.status.into()),
        reason: if job.reason.is_empty() { waiting.unwrap_or_default() } else { job.reason.clone() },
        attempt: Some(job.attempt).filter(|attempt| *attempt > 0),
        failures: job.failures,
        disruptions: job.disruptions,
        system_failures: job.system_failures,
        step: job.checkpoint_step,
        progress: job.progress_percent.map(|percent| format!("{percent}%")),
        submitted_at: Some(job.created_at),
        finished_at: job.finished_at,
        attempts: attempts.iter().rev().take(MAX_ATTEMPTS).rev().map(Attempt::from).collect(),
        suspended: follows,
        ..Status::default()
    }
}

fn conditions(status: &Status, submitted: Submitted<'_>) -> impl Iterator<Item = Condition> {
    let phase = status.phase;
    let reason = status.reason.clone();
    let name = phase.map_or_else(|| "NotSubmitted".to_owned(), |phase| format!("{phase:?}"));
    let is = |wanted: Phase| phase == Some(wanted);
    let accepted = match submitted {
        Submitted::Refused(why) => Some(Condition::new("Accepted", false, "Refused", why)),
        Submitted::Job(job) => Some(Condition::new("Accepted", true, "Submitted", format!("job {}", job.id))),
        Submitted::Nothing => None,
    };
    let has_failed = is(Phase::Failed) || is(Phase::Cancelled);
    let rest = [
        ("Running", is(Phase::Running)),
        ("Suspended", is(Phase::Suspended)),
        ("Complete", is(Phase::Succeeded)),
        ("Failed", has_failed),
    ];
    let rest = rest.map(|(kind, is_so)| {
        let message = if is_so || !matches!(kind, "Complete" | "Failed") { reason.as_str() } else { "" };
        Condition::new(kind, is_so, &name, message)
    });
    accepted.into_iter().chain(rest)
}

#[cfg(test)]
mod tests;
