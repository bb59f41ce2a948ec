//! REST v1: where a version came from and where it went.

use axum::Json;
use axum::extract::State;
use slipway_service_kit::extract::Path;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, version_of};
use crate::access::Caller;
use crate::models::lineage::Lineage;
use crate::state::Registry;

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Shows what a version was made from and where it is deployed: logged model, run, code, data sets, job and checkpoint; signature,
/// reports, approvals; deployments.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/lineage", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object)))]
async fn show(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
) -> Answer {
    let mut db = registry.pool.acquire().await?;
    let found = version_of(&mut db, &name, &version).await?;
    Ok(Json(Lineage::read(&mut db, found, registry.access.reader(&caller)).await?.body()))
}
