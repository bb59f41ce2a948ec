//! What REST and gRPC share: finding, listing and cancelling jobs.

use std::collections::{BTreeMap, HashMap};

use slipway_access::Caller;
use slipway_api::rest::launcher::{Job, Waiting};
use slipway_domain::training::{JobEvent, JobSpec, Status, TRAINING_JOB_KEY};
use slipway_http_server::Problem;
use slipway_http_server::page::{Page, PageQuery};
use uuid::Uuid;

use crate::api::rest::bodies;
use crate::change::{self, Details};
use crate::state::State;
use crate::store::checkpoints::{self, StoredCheckpoint};
use crate::store::jobs::{self, Filter, StoredJob};
use crate::store::{attempts, processes};
use crate::waiting;

/// Retention keeps at most the number of checkpoints that a job may ask for.
const MAX_CHECKPOINTS: i64 = 1_000;

/// The id in a path or message. Text that is not a UUID is the id of no job.
///
/// # Errors
/// It is not a UUID.
pub(crate) fn job_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| absent(text))
}

fn absent(id: &str) -> Problem {
    Problem::not_found(format!("job `{id}`"))
}

/// A job as a client submits it, under its key where there is one.
///
/// # Errors
/// The key belongs to a TrainingJob of the cluster.
pub(crate) fn of_client(spec: JobSpec) -> Result<JobSpec, Problem> {
    let key = spec.idempotency_key.as_deref().unwrap_or_default();
    if key.starts_with(TRAINING_JOB_KEY) {
        let rule =
            format!("keys that begin with `{TRAINING_JOB_KEY}` are those of TrainingJobs, got `{key}`");
        return Err(Problem::invalid("idempotency_key", rule));
    }
    Ok(spec)
}

/// The job of that id.
///
/// # Errors
/// There is none, or Postgres is unavailable.
pub(crate) async fn find(state: &State, id: Uuid) -> Result<StoredJob, Problem> {
    let mut connection = state.pool.acquire().await?;
    jobs::find(&mut connection, id).await?.ok_or_else(|| absent(&id.to_string()))
}

/// One page of the jobs that the caller may read, newest first; with a status, only those.
///
/// A page token names the last job of the page: its position among all jobs would tell how many others there
/// are.
///
/// # Errors
/// There is no such status, the page is not valid, or Postgres is unavailable.
pub(crate) async fn list(
    state: &State,
    status: Option<&str>,
    page: &PageQuery,
) -> Result<Page<StoredJob>, Problem> {
    let status = match status.filter(|status| !status.is_empty()) {
        Some(name) => Some(Status::parse(name).ok_or_else(|| {
            let names = Status::ALL.map(Status::as_str).join(", ");
            Problem::invalid("status", format!("expected one of {names}, got `{name}`"))
        })?),
        None => None,
    };
    let limit = page.limit()?;
    let mut connection = state.pool.acquire().await?;
    let visible = Caller::visible_experiments();
    let filter = Filter { status, experiments: visible.only() };
    let before = match page.after::<Uuid>()? {
        None => None,
        Some(last) => {
            let found = jobs::position(&mut connection, &filter, last).await?;
            let gone =
                || Problem::invalid("page_token", "its job is not in this list; start again without one");
            Some(found.ok_or_else(gone)?)
        }
    };
    let rows = jobs::list(&mut connection, &filter, before, i64::from(limit) + 1).await?;
    Ok(Page::of(rows, limit, |job| job.id))
}

/// A job with its specification and attempts.
///
/// # Errors
/// Postgres is unavailable.
pub(crate) async fn detailed(state: &State, job: StoredJob) -> Result<Job, Problem> {
    let mut connection = state.pool.acquire().await?;
    let attempts = attempts::list(&mut connection, job.id).await?;
    let processes = match job.spec.group() {
        Some(_) => processes::list(&mut connection, job.id).await?,
        None => Vec::new(),
    };
    drop(connection);
    let waiting = waiting_of(state, std::slice::from_ref(&job)).await?.remove(&job.id);
    Ok(bodies::detailed(waiting, job, attempts, &processes))
}

/// Jobs as items of a list.
///
/// # Errors
/// Postgres is unavailable.
pub(crate) async fn listed(state: &State, jobs: Vec<StoredJob>) -> Result<Vec<Job>, Problem> {
    let waiting = waiting_of(state, &jobs).await?;
    Ok(jobs.into_iter().map(|job| bodies::listed(waiting.get(&job.id).cloned(), job)).collect())
}

/// What the jobs among these that wait are waiting for.
async fn waiting_of(state: &State, jobs: &[StoredJob]) -> Result<HashMap<Uuid, Waiting>, Problem> {
    let waits = |job: &StoredJob| matches!(job.state.status(), Status::Queued | Status::Retrying);
    if jobs.iter().any(waits) { waiting::explain(state).await } else { Ok(HashMap::new()) }
}

/// Requests the end of a job; a job that has ended stays as it is.
///
/// # Errors
/// There is no such job, or Postgres is unavailable.
pub(crate) async fn cancel(state: &State, id: Uuid) -> Result<StoredJob, Problem> {
    asked(state, id, JobEvent::CancelRequested).await
}

/// The job after a request of a client.
async fn asked(state: &State, id: Uuid, event: JobEvent) -> Result<StoredJob, Problem> {
    let changed = change::job(state, id, event, Details::default()).await?;
    changed.map(|changed| changed.job).ok_or_else(|| absent(&id.to_string()))
}

/// Has a job give its attempt and its resources up until it is resumed; one that has ended, or is suspended,
/// stays as it is.
///
/// # Errors
/// There is no such job, or Postgres is unavailable.
pub(crate) async fn suspend(state: &State, id: Uuid) -> Result<StoredJob, Problem> {
    asked(state, id, JobEvent::SuspendRequested).await
}

/// Has a suspended job go on, with other numbers of processes by role where there are `replicas`; without
/// them, one that runs or waits stays as it is.
///
/// # Errors
/// There is no such job, it has ended, is still being suspended or cannot have these processes, or Postgres
/// is unavailable.
pub(crate) async fn resume(
    state: &State,
    id: Uuid,
    replicas: Option<BTreeMap<String, u32>>,
) -> Result<StoredJob, Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let mut job = jobs::lock(&mut transaction, id).await?.ok_or_else(|| absent(&id.to_string()))?;
    if let Some(replicas) = replicas {
        job.spec = resized(&job, replicas)?;
        jobs::set_spec(&mut transaction, id, &job.spec).await?;
    }
    let resumed = JobEvent::ResumeRequested;
    let changed = change::within(state, &mut transaction, job, resumed, Details::default()).await?;
    transaction.commit().await?;
    if !changed.actions.is_empty() {
        state.committed();
    }
    let job = changed.job;
    let status = job.state.status();
    if status.is_final() || job.state.is_stopping() {
        return Err(Problem::conflict(format!(
            "job `{id}` is {}; only a suspended job can be resumed",
            status.as_str()
        )));
    }
    Ok(job)
}

/// The spec of a suspended job with other numbers of processes.
fn resized(job: &StoredJob, replicas: BTreeMap<String, u32>) -> Result<JobSpec, Problem> {
    let (id, status) = (job.id, job.state.status());
    if status != Status::Suspended {
        let status = status.as_str();
        return Err(Problem::conflict(format!(
            "job `{id}` is {status}; only the replicas of a suspended job can be changed"
        )));
    }
    if job.spec.idempotency_key.as_ref().is_some_and(|key| key.starts_with(TRAINING_JOB_KEY)) {
        return Err(Problem::conflict(format!(
            "job `{id}` belongs to a TrainingJob, whose replicas do not change; create another TrainingJob"
        )));
    }
    job.spec.resized(replicas).map_err(|invalid| Problem::invalid(invalid.field, invalid.message))
}

/// Committed checkpoints of a job, newest first.
///
/// # Errors
/// There is no such job, or Postgres is unavailable.
pub(crate) async fn checkpoints(state: &State, id: Uuid) -> Result<Vec<StoredCheckpoint>, Problem> {
    let job = find(state, id).await?;
    let mut connection = state.pool.acquire().await?;
    Ok(checkpoints::list(&mut connection, job.id, MAX_CHECKPOINTS).await?)
}

/// The newest checkpoint of a step.
///
/// # Errors
/// There is no such job or checkpoint, or Postgres is unavailable.
pub(crate) async fn checkpoint(state: &State, id: Uuid, step: u64) -> Result<StoredCheckpoint, Problem> {
    let found = checkpoints(state, id).await?;
    found.into_iter().find(|found| found.manifest.step == step).ok_or_else(|| no_checkpoint(id, step))
}

fn no_checkpoint(id: Uuid, step: u64) -> Problem {
    Problem::not_found(format!("checkpoint of step {step} of job `{id}`"))
}

/// Releases the checkpoints of a step; the collector deletes their objects.
///
/// # Errors
/// There is no such job or checkpoint, the job has not ended, or Postgres is unavailable.
pub(crate) async fn delete_checkpoint(state: &State, id: Uuid, step: u64) -> Result<(), Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let job = jobs::lock(&mut transaction, id).await?.ok_or_else(|| absent(&id.to_string()))?;
    let status = job.state.status();
    if !status.is_final() {
        return Err(Problem::conflict(format!(
            "job `{id}` is {}, and its next attempt may restore the checkpoint; cancel the job first",
            status.as_str()
        )));
    }
    let found = checkpoints::list(&mut transaction, id, MAX_CHECKPOINTS).await?;
    let of_step = found.into_iter().filter(|found| found.manifest.step == step);
    let prefixes: Vec<String> = of_step.map(|found| found.manifest.prefix).collect();
    if prefixes.is_empty() {
        return Err(no_checkpoint(id, step));
    }
    checkpoints::release(&mut transaction, id, &prefixes).await?;
    transaction.commit().await?;
    Ok(())
}
