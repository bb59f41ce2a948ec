//! REST: Open Inference Protocol v2 with Triton's extensions, KServe's v1, and labels.

mod body;
mod infer;
mod labels;
mod models;
mod v1;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get, post};
use serde::Deserialize;
use slipway_event_bus::EventBus;
use slipway_service_kit::health::Readiness;

use crate::describe::is_version;
use crate::failure::{Failure, Kind};
use crate::predict::Predictor;
use crate::routing::Routing;

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RestState {
    /// Current routes.
    pub routing: Arc<Routing>,
    /// Answers predictions.
    pub predictor: Predictor,
    /// Takes labels.
    pub bus: EventBus,
    /// What the replica waits for.
    pub readiness: Readiness,
    /// Largest body of a prediction, packed or unpacked.
    pub max_body_bytes: usize,
}

/// All routes.
pub(crate) fn router(state: RestState) -> Router {
    let mut router = Router::new()
        .route("/", get(v1::alive))
        .route("/v2", get(models::server))
        .route("/v2/", get(models::server))
        .route("/v2/health/live", get(models::live))
        .route("/v2/health/ready", get(models::server_ready))
        .route("/v2/models", get(models::list))
        .route("/v2/models/stats", get(models::all_statistics))
        .route("/v2/repository/index", post(models::index))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(v1::ready).post(v1::predict))
        .route("/v1/deployments/{name}/labels", post(labels::accept))
        .route("/v2/{*rest}", any(no_such_route))
        .route("/v1/{*rest}", any(no_such_route));
    for model in ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"] {
        router = router
            .route(model, get(models::metadata))
            .route(&format!("{model}/ready"), get(models::ready))
            .route(&format!("{model}/infer"), post(infer::infer))
            .route(&format!("{model}/config"), get(models::config))
            .route(&format!("{model}/stats"), get(models::statistics));
    }
    router.method_not_allowed_fallback(method_not_allowed).with_state(state)
}

/// The model that a path names.
#[derive(Debug, Deserialize)]
struct Model {
    name: String,
    version: Option<String>,
}

impl Model {
    /// Refuses a version that is none.
    fn checked(self) -> Result<Self, Failure> {
        match self.version.as_deref().filter(|version| !is_version(version)) {
            Some(version) => Err(Failure::not_found(format!(
                "'{version}' is no version of model '{}'; expected digits",
                self.name
            ))),
            None => Ok(self),
        }
    }
}

async fn no_such_route(uri: http::Uri) -> Failure {
    Failure::not_found(format!("{} is not served here", uri.path()))
}

async fn method_not_allowed() -> Failure {
    Failure::new(Kind::MethodNotAllowed, "Method Not Allowed")
}
