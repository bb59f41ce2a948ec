//! REST: jobs, their logs and checkpoints.

pub(crate) mod bodies;
mod jobs;
mod logs;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
pub(crate) use jobs::{cancel_job, list_page};
use slipway_service_kit::Problem;
use uuid::Uuid;

use crate::MAX_MESSAGE_BYTES;
use crate::state::State;
use crate::store::jobs::{self as table, StoredJob};

/// All routes.
pub(crate) fn router(state: State) -> Router {
    Router::new()
        .route(
            "/api/v1/jobs",
            post(jobs::submit).layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES)).get(jobs::list),
        )
        .route("/api/v1/capacity", get(jobs::capacity))
        .route("/api/v1/jobs/{id}", get(jobs::get))
        .route("/api/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/api/v1/jobs/{id}/logs", get(logs::read))
        .route("/api/v1/jobs/{id}/checkpoints", get(jobs::checkpoints))
        .with_state(state)
}

/// The id in a path; what is no id names no job.
pub(crate) fn job_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::not_found(format!("job `{text}`")))
}

/// A job that must be there.
pub(crate) async fn find(state: &State, id: Uuid) -> Result<StoredJob, Problem> {
    let mut connection = state.pool.acquire().await?;
    table::find(&mut connection, id).await?.ok_or_else(|| Problem::not_found(format!("job `{id}`")))
}
