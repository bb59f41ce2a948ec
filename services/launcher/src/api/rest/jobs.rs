//! Submitting, showing, listing and cancelling jobs.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State as Shared;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_domain::training::{JobSpec, Status};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{NamedPage, PageQuery};
use uuid::Uuid;

use super::bodies::{CheckpointBody, JobBody};
use crate::state::State;
use crate::store::jobs::StoredJob;
use crate::store::{attempts, checkpoints as checkpoint_table};
use crate::waiting::{self, Waiting};
use crate::{change, manage};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Retention keeps no more than a job may ask for.
const MAX_CHECKPOINTS: i64 = 1_000;

/// Filters and paging of a list.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    status: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    limit: Option<u32>,
    page_token: Option<String>,
}

pub(super) async fn submit(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    JsonBody(mut spec): JsonBody<JobSpec>,
) -> Result<(StatusCode, Json<JobBody>), Problem> {
    if let Some(key) = headers.get(IDEMPOTENCY_KEY) {
        let key = key.to_str().map_err(|_| Problem::invalid("Idempotency-Key", "must be printable ASCII"))?;
        if spec.idempotency_key.as_deref().is_some_and(|other| other != key) {
            return Err(Problem::invalid("idempotency_key", "differs from the header Idempotency-Key"));
        }
        spec.idempotency_key = Some(key.to_owned());
    }
    let (job, created) = change::submit(&state, spec).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(whole(&state, job).await?)))
}

pub(super) async fn get(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
) -> Result<Json<JobBody>, Problem> {
    let job = manage::find(&state, manage::job_id(&id)?).await?;
    Ok(Json(whole(&state, job).await?))
}

pub(super) async fn list(
    Shared(state): Shared<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<NamedPage<JobBody>>, Problem> {
    let page = PageQuery { limit: query.limit, page_token: query.page_token };
    let found = manage::list(&state, query.status.as_deref(), &page).await?;
    let waiting = waiting_of(&state, &found.items).await?;
    let lines = found.map(|job| JobBody::line(waiting.get(&job.id).cloned(), job));
    Ok(Json(lines.named("jobs")))
}

pub(super) async fn cancel(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
) -> Result<Json<JobBody>, Problem> {
    let job = manage::cancel(&state, manage::job_id(&id)?).await?;
    Ok(Json(whole(&state, job).await?))
}

pub(super) async fn checkpoints(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let job = manage::find(&state, manage::job_id(&id)?).await?;
    let mut connection = state.pool.acquire().await?;
    let rows = checkpoint_table::list(&mut connection, job.id, MAX_CHECKPOINTS).await?;
    let checkpoints: Vec<CheckpointBody> = rows.into_iter().map(CheckpointBody::from).collect();
    Ok(Json(json!({ "checkpoints": checkpoints })))
}

pub(super) async fn capacity(Shared(state): Shared<State>) -> Result<Json<Value>, Problem> {
    waiting::capacity(&state).await.map(Json)
}

async fn whole(state: &State, job: StoredJob) -> Result<JobBody, Problem> {
    let mut connection = state.pool.acquire().await?;
    let attempts = attempts::list(&mut connection, job.id).await?;
    drop(connection);
    let waiting = waiting_of(state, std::slice::from_ref(&job)).await?.remove(&job.id);
    Ok(JobBody::whole(waiting, job, attempts))
}

/// What the jobs among these that wait are waiting for.
async fn waiting_of(state: &State, jobs: &[StoredJob]) -> Result<HashMap<Uuid, Waiting>, Problem> {
    let waits = |job: &StoredJob| matches!(job.state.status(), Status::Queued | Status::Retrying);
    if jobs.iter().any(waits) { waiting::explain(state).await } else { Ok(HashMap::new()) }
}
