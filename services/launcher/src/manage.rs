//! What REST and gRPC share: finding, listing and cancelling jobs.

use slipway_domain::training::{JobEvent, Status};
use slipway_http_server::Problem;
use slipway_http_server::page::{Page, PageQuery};
use uuid::Uuid;

use crate::change::{self, Details};
use crate::state::State;
use crate::store::jobs::{self, StoredJob};

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

/// The job of that id.
///
/// # Errors
/// There is none, or Postgres is unavailable.
pub(crate) async fn find(state: &State, id: Uuid) -> Result<StoredJob, Problem> {
    let mut connection = state.pool.acquire().await?;
    jobs::find(&mut connection, id).await?.ok_or_else(|| absent(&id.to_string()))
}

/// One page of jobs, newest first; with a status, only those.
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
            let names = "queued, running, retrying, cancelling, succeeded, failed or cancelled";
            Problem::invalid("status", format!("expected {names}, got `{name}`"))
        })?),
        None => None,
    };
    let limit = page.limit()?;
    let mut connection = state.pool.acquire().await?;
    let rows = jobs::list(&mut connection, status, page.after()?, i64::from(limit) + 1).await?;
    Ok(Page::of(rows, limit, |job| job.seq))
}

/// Requests the end of a job; a job that has ended stays as it is.
///
/// # Errors
/// There is no such job, or Postgres is unavailable.
pub(crate) async fn cancel(state: &State, id: Uuid) -> Result<StoredJob, Problem> {
    let changed = change::job(state, id, JobEvent::CancelRequested, Details::default()).await?;
    changed.map(|changed| changed.job).ok_or_else(|| absent(&id.to_string()))
}
