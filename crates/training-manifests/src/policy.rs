//! When a job starts, how often it is tried, and how long it may take.

use slipway_domain::Invalid;
use slipway_domain::training::QUEUE_LABEL;

use crate::Converted;
use crate::fields::Fields;

/// Retries of a Job that says nothing.
///
/// Source: <https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy>.
const DEFAULT_RETRIES: u32 = 6;

/// `suspend` with a queue is the queue's business. Without one, somebody wants to start the job later.
pub(crate) fn take_suspend(fields: &mut Fields, into: &Converted) -> Result<(), Invalid> {
    let is_suspended: bool = fields.take("suspend")?.unwrap_or_default();
    if is_suspended && into.kubernetes.queue.is_none() {
        let message =
            format!("a job starts when it is submitted, unless the label {QUEUE_LABEL} names a queue");
        return Err(fields.invalid("suspend", message));
    }
    Ok(())
}

/// Takes retries and times, which a Job and Kubeflow's run policy name alike. Answers with the time limit.
pub(crate) fn take_limits(fields: &mut Fields, into: &mut Converted) -> Result<Option<f64>, Invalid> {
    into.job.retries.limit = fields.take("backoffLimit")?.unwrap_or(DEFAULT_RETRIES);
    into.kubernetes.ttl_s = fields.take("ttlSecondsAfterFinished")?;
    let limit_s: Option<f64> = fields.take("activeDeadlineSeconds")?;
    if limit_s.is_some() && into.job.retries.limit > 0 {
        let path = fields.path_of("activeDeadlineSeconds");
        into.dropped.push(format!("{path} (limits each attempt, not all of them together)"));
    }
    Ok(limit_s)
}
