//! What this replica serves.

use axum::Json;
use axum::extract::State;
use slipway_api::rest::serving::{ServedDeployment, ServedDeployments, ServedVersion};
use slipway_http_server::Problem;
use slipway_http_server::extract::Path;
use slipway_openapi::{DocumentedRouter, routes};

use super::extract::CalledBy;
use crate::models::routing::{Route, Version};
use crate::state::ServingState;

pub(super) fn router() -> DocumentedRouter<ServingState> {
    DocumentedRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// Lists deployments of this replica that the caller may use, with the traffic table and the state of each
/// version.
#[utoipa::path(get, path = "/api/v1/deployments", tag = "deployments",
    responses((status = 200, body = ServedDeployments)))]
async fn list(State(state): State<ServingState>, caller: CalledBy) -> Json<ServedDeployments> {
    let (routes, sees) = (state.routing.all(), state.access.sees(caller.as_deref()));
    let seen = routes.iter().filter(|(name, _)| sees(name));
    Json(ServedDeployments { deployments: seen.map(|(name, route)| shown(name, route)).collect() })
}

/// Shows a deployment of this replica.
#[utoipa::path(get, path = "/api/v1/deployments/{name}", tag = "deployments",
    params(("name" = String, Path, description = "Deployment")), responses((status = 200,
    body = ServedDeployment)))]
async fn show(
    State(state): State<ServingState>,
    Path(name): Path<String>,
) -> Result<Json<ServedDeployment>, Problem> {
    let route = state.routing.get(&name);
    let route = route.map_err(|_unknown| Problem::not_found(format!("deployment `{name}`")))?;
    Ok(Json(shown(&name, &route)))
}

fn shown(name: &str, route: &Route) -> ServedDeployment {
    ServedDeployment {
        name: name.to_owned(),
        model: route.table.model.clone(),
        traffic: (*route.table).clone().into(),
        versions: route.versions.values().map(version).collect(),
    }
}

fn version(version: &Version) -> ServedVersion {
    ServedVersion {
        version: version.target.version.clone(),
        digest: version.target.digest.clone(),
        state: version.state.into(),
        reason: version.reason.clone(),
    }
}
