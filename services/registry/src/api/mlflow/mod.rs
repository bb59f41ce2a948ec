//! MLflow's REST API: `/api/2.0/mlflow` and its twin `/ajax-api`.
//!
//! Source: the protobuf descriptors and the behaviour of MLflow 3.17 and 3.18; see docs/api.md for what is
//! answered.

mod artifacts;
pub(crate) mod error;
mod experiments;
mod histories;
mod inputs;
mod logged_models;
mod message;
mod metrics;
mod model_versions;
mod prompts;
mod proxy;
mod registered_models;
mod registrations;
mod request;
mod run_body;
mod runs;
mod search;
mod server;
pub(crate) mod webhook_events;
mod webhooks;
mod wording;

use axum::{Json, Router};
pub(crate) use request::Fields;
use serde_json::Value;
pub(crate) use server::OTLP_TRACES;

use self::error::Failure;
use crate::clock::now_ms;
use crate::state::Registry;

/// What a handler answers.
type Answer = Result<Json<Value>, Failure>;

/// An answer of 200.
fn answer(body: impl Into<Value>) -> Json<Value> {
    Json(body.into())
}

/// The empty message.
fn empty() -> Json<Value> {
    Json(Value::Object(serde_json::Map::new()))
}

/// All routes.
pub(crate) fn router() -> Router<Registry> {
    let mut router = server::router().merge(artifacts::downloads()).merge(artifacts::browser_router());
    for prefix in ["/api", "/ajax-api"] {
        router = router
            .merge(experiments::router(prefix))
            .merge(runs::router(prefix))
            .merge(metrics::router(prefix))
            .merge(histories::router(prefix))
            .merge(inputs::router(prefix))
            .merge(artifacts::router(prefix))
            .merge(logged_models::router(prefix))
            .merge(registered_models::router(prefix))
            .merge(model_versions::router(prefix))
            .merge(webhooks::router(prefix))
            .merge(proxy::router(&format!("{prefix}/2.0")))
            .route(
                &format!("{prefix}/{{version}}/mlflow/{{*rest}}"),
                axum::routing::any(server::no_endpoint),
            );
    }
    router
}
