//! The shared memory extensions, which are not supported: no region is ever registered.

use axum::Json;
use axum::routing::{get, post};
use slipway_api::rest::serving::EmptyObject;
use slipway_openapi::{DocumentedRouter, routes};

use crate::failure::{Failure, Kind};
use crate::state::ServingState;

const SYSTEM: &str = "/v2/systemsharedmemory";
const CUDA: &str = "/v2/cudasharedmemory";

pub(super) fn router() -> DocumentedRouter<ServingState> {
    let mut router = DocumentedRouter::new()
        .routes(routes!(status))
        .routes(routes!(region_status))
        .routes(routes!(register))
        .routes(routes!(unregister))
        .routes(routes!(unregister_all));
    for (path, methods) in [
        ("status", get(status)),
        ("region/{region}/status", get(region_status)),
        ("region/{region}/register", post(register)),
        ("region/{region}/unregister", post(unregister)),
        ("unregister", post(unregister_all)),
    ] {
        router = router.also(&format!("{SYSTEM}/{path}"), &format!("{CUDA}/{path}"), methods);
    }
    router
}

/// Lists registered regions: none.
#[utoipa::path(get, path = "/v2/systemsharedmemory/status", tag = "shared-memory",
    responses((status = 200, body = Vec<EmptyObject>)))]
async fn status() -> Json<Vec<EmptyObject>> {
    Json(Vec::new())
}

/// Returns 404, because no region is registered.
#[utoipa::path(get, path = "/v2/systemsharedmemory/region/{region}/status", tag = "shared-memory",
    params(("region" = String, Path, description = "Name of a region")), responses((status = 404,
    description = "Always")))]
async fn region_status(path: axum::extract::OriginalUri) -> Failure {
    Failure::not_found(format!("no shared memory is registered: {}", path.path()))
}

/// Returns 501, because shared memory is not supported.
#[utoipa::path(post, path = "/v2/systemsharedmemory/region/{region}/register", tag = "shared-memory",
    params(("region" = String, Path, description = "Name of a region")), responses((status = 501,
    description = "Always")))]
async fn register() -> Failure {
    Failure::new(Kind::Unsupported, "shared memory is not supported; send the data in the request")
}

/// Unregisters a region. Succeeds, because none is registered.
#[utoipa::path(post, path = "/v2/systemsharedmemory/region/{region}/unregister", tag = "shared-memory",
    params(("region" = String, Path, description = "Name of a region")), responses((status = 200,
    body = EmptyObject)))]
async fn unregister() -> Json<EmptyObject> {
    Json(EmptyObject {})
}

/// Unregisters all regions. Succeeds, because none is registered.
#[utoipa::path(post, path = "/v2/systemsharedmemory/unregister", tag = "shared-memory",
    responses((status = 200, body = EmptyObject)))]
async fn unregister_all() -> Json<EmptyObject> {
    Json(EmptyObject {})
}
