//! Committed checkpoints of a job.

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use slipway_api::rest::launcher::{CheckpointDetails, Checkpoints};
use slipway_http_server::Problem;
use slipway_http_server::extract::Path;
use slipway_openapi::{DocumentedRouter, routes};

use super::bodies;
use crate::manage;
use crate::state::State;

pub(super) fn router() -> DocumentedRouter<State> {
    DocumentedRouter::new().routes(routes!(list)).routes(routes!(show, delete))
}

/// Lists committed checkpoints of a job, newest first.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/checkpoints", tag = "checkpoints",
    params(("id" = String, Path, description = "Job ID")), responses((status = 200, body = Checkpoints)))]
async fn list(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Json<Checkpoints>, Problem> {
    let found = manage::checkpoints(&state, manage::job_id(&id)?).await?;
    Ok(Json(Checkpoints { checkpoints: found.iter().map(bodies::checkpoint).collect() }))
}

/// Shows the newest checkpoint of a step with its files.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/checkpoints/{step}", tag = "checkpoints",
    params(("id" = String, Path, description = "Job ID"), ("step" = u64, Path,
    description = "Training step")),
    responses((status = 200, body = CheckpointDetails)))]
async fn show(
    Shared(state): Shared<State>,
    Path((id, step)): Path<(String, u64)>,
) -> Result<Json<CheckpointDetails>, Problem> {
    let found = manage::checkpoint(&state, manage::job_id(&id)?, step).await?;
    Ok(Json(bodies::checkpoint_details(found)))
}

/// Deletes the checkpoints of a step. Their objects are deleted some minutes later.
#[utoipa::path(delete, path = "/api/v1/jobs/{id}/checkpoints/{step}", tag = "checkpoints",
    params(("id" = String, Path, description = "Job ID"), ("step" = u64, Path,
    description = "Training step")),
    responses((status = 204, description = "Deleted"),
        (status = 409, description = "The job has not ended, and may restore the checkpoint")))]
async fn delete(
    Shared(state): Shared<State>,
    Path((id, step)): Path<(String, u64)>,
) -> Result<StatusCode, Problem> {
    manage::delete_checkpoint(&state, manage::job_id(&id)?, step).await?;
    Ok(StatusCode::NO_CONTENT)
}
