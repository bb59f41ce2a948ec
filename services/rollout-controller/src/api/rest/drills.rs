//! Fault drills.

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use slipway_api::rest::rollouts::{Drill, DrillRequest};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path};
use slipway_openapi::{DocumentedRouter, routes};

use super::bodies;
use crate::drills;
use crate::state::State;

pub(super) fn router() -> DocumentedRouter<State> {
    DocumentedRouter::new().routes(routes!(start, get, stop))
}

/// Starts a drill: copies of the requests to the stable version meet a fault, and the analysis of the
/// deployment's default strategy judges them as those of a candidate.
///
/// Users' requests meet the fault only with the target `answers` and the deployment's name in `confirm`. The
/// drill ends automatically; a rollout or the kill switch ends it early.
#[utoipa::path(put, path = "/api/v1/deployments/{name}/drill", tag = "drills",
    request_body = DrillRequest,
    params(("name" = String, Path, description = "Deployment")),
    responses((status = 201, description = "Started", body = Drill),
        (status = 200, description = "The same drill runs", body = Drill),
        (status = 409,
        description = "Another drill runs, a rollout is in progress, or the kill switch is active")))]
async fn start(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<DrillRequest>,
) -> Result<(StatusCode, Json<Drill>), Problem> {
    let (stored, is_new) = drills::start(&state, &name, request.into(), None).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(bodies::drill(stored, name))))
}

/// Shows the drill that runs, or the newest one, with its report.
#[utoipa::path(get, path = "/api/v1/deployments/{name}/drill", tag = "drills",
    params(("name" = String, Path, description = "Deployment")), responses((status = 200, body = Drill),
        (status = 404, description = "There is no such deployment, or it had no drill")))]
async fn get(Shared(state): Shared<State>, Path(name): Path<String>) -> Result<Json<Drill>, Problem> {
    Ok(Json(bodies::drill(drills::newest(&state, &name).await?, name)))
}

/// Stops the drill that runs. A drill that has ended stays as it is.
#[utoipa::path(delete, path = "/api/v1/deployments/{name}/drill", tag = "drills",
    params(("name" = String, Path, description = "Deployment")), responses((status = 200, body = Drill),
        (status = 404, description = "There is no such deployment, or it had no drill")))]
async fn stop(Shared(state): Shared<State>, Path(name): Path<String>) -> Result<Json<Drill>, Problem> {
    Ok(Json(bodies::drill(drills::stop(&state, &name, "stopped by a client").await?, name)))
}
