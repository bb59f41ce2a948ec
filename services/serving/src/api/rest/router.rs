//! The routes.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};

use super::{config, control, infer, labels, models, v1};
use crate::api::access;
use crate::failure::{Failure, Kind};
use crate::state::ServingState;

/// All routes.
pub(crate) fn router(state: ServingState) -> Router {
    let guard = state.access.clone();
    let router = routes().method_not_allowed_fallback(method_not_allowed).with_state(state);
    if guard.is_on() { router.layer(from_fn_with_state(guard, access::rest::guard)) } else { router }
}

/// The routes without the guard.
pub(crate) fn routes() -> Router<ServingState> {
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
            .route(&format!("{model}/config"), get(config::config))
            .route(&format!("{model}/stats"), get(models::model_statistics));
    }
    router
}

async fn no_such_route(uri: http::Uri) -> Failure {
    Failure::not_found(format!("{} is not served here", uri.path()))
}

async fn method_not_allowed() -> Failure {
    Failure::new(Kind::MethodNotAllowed, "Method Not Allowed")
}
