//! REST: jobs, their logs and checkpoints.

pub(crate) mod bodies;
mod jobs;
mod logs;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::MAX_MESSAGE_BYTES;
use crate::state::State;

/// All routes.
pub(crate) fn router(state: State) -> Router {
    routes().with_state(state)
}

pub(super) fn routes() -> Router<State> {
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
}
