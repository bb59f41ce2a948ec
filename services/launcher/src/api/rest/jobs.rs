//! Submitting, showing, listing and cancelling jobs.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State as Shared};
use http::{HeaderMap, StatusCode};
use slipway_api::rest::launcher::{CapacityReport, Job, JobResumption, JobSpec, Jobs, JobsQuery};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::PageQuery;
use slipway_openapi::{DocumentedRouter, routes};

use crate::state::State;
use crate::{MAX_MESSAGE_BYTES, change, manage, waiting};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(super) fn router() -> DocumentedRouter<State> {
    let large = DocumentedRouter::new().routes(routes!(list, submit));
    large
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .routes(routes!(get))
        .routes(routes!(cancel))
        .routes(routes!(suspend))
        .routes(routes!(resume))
        .routes(routes!(capacity))
}

/// Submits a job. The same `Idempotency-Key` returns the job that was submitted with it.
///
/// A job that requires more than the machine has is created as `failed`; its `reason` has the cause.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", request_body = JobSpec,
    params(("Idempotency-Key" = Option<String>, Header, description = "As `idempotency_key` of the body")),
    responses((status = 201, description = "Created", body = Job),
        (status = 200, description = "The job that was submitted with this key", body = Job),
        (status = 409, description = "The key belongs to another job")))]
async fn submit(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    JsonBody(mut spec): JsonBody<JobSpec>,
) -> Result<(StatusCode, Json<Job>), Problem> {
    if let Some(key) = headers.get(IDEMPOTENCY_KEY) {
        let key = key.to_str().map_err(|_| Problem::invalid("Idempotency-Key", "must be printable ASCII"))?;
        if spec.idempotency_key.as_deref().is_some_and(|other| other != key) {
            let detail = "differs from the header Idempotency-Key";
            return Err(Problem::invalid("idempotency_key", detail));
        }
        spec.idempotency_key = Some(key.to_owned());
    }
    let (job, created) = change::submit(&state, manage::of_client(spec.into())?).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(manage::detailed(&state, job).await?)))
}

/// Shows a job with its specification and attempts.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path,
    description = "Job ID")),
    responses((status = 200, body = Job)))]
async fn get(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Json<Job>, Problem> {
    let job = manage::find(&state, manage::job_id(&id)?).await?;
    Ok(Json(manage::detailed(&state, job).await?))
}

/// Lists jobs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(JobsQuery), responses((status = 200,
    body = Jobs)))]
async fn list(Shared(state): Shared<State>, Query(query): Query<JobsQuery>) -> Result<Json<Jobs>, Problem> {
    let page = PageQuery { limit: query.limit, page_token: query.page_token };
    let found = manage::list(&state, query.status.as_deref(), &page).await?;
    let jobs = manage::listed(&state, found.items).await?;
    Ok(Json(Jobs { jobs, next_page_token: found.next_page_token }))
}

/// Cancels a job: sends SIGTERM to its command, and SIGKILL after the grace period. A job that has ended
/// stays as it is.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path, description = "Job ID")), responses((status = 200, body = Job)))]
async fn cancel(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Json<Job>, Problem> {
    let job = manage::cancel(&state, manage::job_id(&id)?).await?;
    Ok(Json(manage::detailed(&state, job).await?))
}

/// Suspends a job: ends its attempt as a cancellation does, and starts no other one until the job is resumed.
/// A job that has ended stays as it is.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/suspend", tag = "jobs",
    params(("id" = String, Path, description = "Job ID")), responses((status = 200, body = Job)))]
async fn suspend(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Json<Job>, Problem> {
    let job = manage::suspend(&state, manage::job_id(&id)?).await?;
    Ok(Json(manage::detailed(&state, job).await?))
}

/// Resumes a suspended job from its newest checkpoint. Without `replicas`, a job that is not suspended stays
/// as it is.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/resume", tag = "jobs", request_body = Option<JobResumption>,
    params(("id" = String, Path, description = "Job ID")),
    responses((status = 200, body = Job),
        (status = 409, description = "The job has ended, is still being stopped, or is not suspended and \
            `replicas` are set")))]
async fn resume(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<JobResumption>,
) -> Result<Json<Job>, Problem> {
    let job = manage::resume(&state, manage::job_id(&id)?, body.replicas).await?;
    Ok(Json(manage::detailed(&state, job).await?))
}

/// Shows what the machine has for jobs, and how much of it running jobs use.
#[utoipa::path(get, path = "/api/v1/capacity", tag = "capacity", responses((status = 200,
    body = CapacityReport)))]
async fn capacity(Shared(state): Shared<State>) -> Result<Json<CapacityReport>, Problem> {
    waiting::capacity(&state).await.map(Json)
}
