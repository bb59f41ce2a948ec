//! REST: Open Inference Protocol v2 with Triton's extensions, KServe's v1, and labels.

mod body;
mod control;
mod front;
mod infer;
mod labels;
mod models;
mod v1;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use slipway_domain::ensemble::is_version;
use slipway_event_bus::EventBus;
use slipway_service_kit::health::Readiness;

use crate::api::access::{Access, Caller, guard_rest};
use crate::api::log_settings::Settings;
use crate::failure::{Failure, Kind};
use crate::models::routing::Routing;
use crate::predict::Predictor;

pub(crate) use front::RestFront;

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RestState {
    /// Current routes.
    pub routing: Arc<Routing>,
    /// Answers predictions.
    pub predictor: Predictor,
    /// Takes labels; without a NATS address there is none.
    pub bus: Option<EventBus>,
    /// What is logged and traced.
    pub settings: Arc<Settings>,
    /// Who may call what.
    pub access: Access,
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
        .route("/v2/repository/index", post(control::index))
        .route("/v2/repository/models/{name}/load", post(control::load))
        .route("/v2/repository/models/{name}/unload", post(control::unload))
        .route("/v2/repository/{repository}/models/{name}/load", post(control::load))
        .route("/v2/repository/{repository}/models/{name}/unload", post(control::unload))
        .route("/v2/logging", get(control::log).post(control::update_log))
        .route("/v2/trace/setting", get(control::trace).post(control::update_trace))
        .route("/v2/models/{name}/trace/setting", get(control::model_trace).post(control::update_model_trace))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(v1::ready).post(v1::predict))
        .route("/v1/deployments/{name}/labels", post(labels::accept))
        .route("/v2/{*rest}", any(no_such_route))
        .route("/v1/{*rest}", any(no_such_route));
    for memory in ["/v2/systemsharedmemory", "/v2/cudasharedmemory"] {
        router = router
            .route(&format!("{memory}/status"), get(control::no_shared_memory))
            .route(&format!("{memory}/region/{{region}}/status"), get(control::unknown_region))
            .route(&format!("{memory}/region/{{region}}/register"), post(control::shared_memory_refused))
            .route(&format!("{memory}/region/{{region}}/unregister"), post(control::nothing_registered))
            .route(&format!("{memory}/unregister"), post(control::nothing_registered));
    }
    for model in ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"] {
        router = router
            .route(model, get(models::metadata))
            .route(&format!("{model}/ready"), get(models::ready))
            .route(&format!("{model}/infer"), post(infer::infer))
            .route(&format!("{model}/config"), get(models::config))
            .route(&format!("{model}/stats"), get(models::model_statistics));
    }
    let router = router.method_not_allowed_fallback(method_not_allowed);
    let access = state.access.clone();
    let router = router.with_state(state);
    if access.is_on() { router.layer(from_fn_with_state(access, guard_rest)) } else { router }
}

/// Who calls, where tokens are asked for.
type CalledBy = Option<Extension<Caller>>;

#[derive(Deserialize)]
struct ModelPath {
    name: String,
    version: Option<String>,
}

/// The model that a path names.
#[derive(Debug)]
struct Model {
    name: String,
    version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Model {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let ModelPath { name, version } = named(parts, state).await?;
        Ok(Self { name, version })
    }
}

/// What a path names. Its refusal is the protocol's, not the framework's text.
async fn named<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<T, Failure> {
    let path = Path::<T>::from_request_parts(parts, state).await;
    path.map(|Path(path)| path)
        .map_err(|_rejection| Failure::invalid("the path does not name a model in UTF-8"))
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
