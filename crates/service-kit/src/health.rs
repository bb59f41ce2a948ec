//! `/healthz`, `/readyz` and `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::exposition::{PROTOBUF_CONTENT_TYPE, wants_protobuf};
use crate::metrics::Metrics;

/// What a service still waits for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    waiting: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Readiness {
    /// Not ready until [`Self::ready`] is called for `part`; `reason` says what is missing.
    pub fn waiting(&self, part: impl Into<String>, reason: impl Into<String>) {
        self.lock().insert(part.into(), reason.into());
    }

    /// The part is there.
    pub fn ready(&self, part: &str) {
        self.lock().remove(part);
    }

    /// What is missing, by part; empty when ready.
    pub fn missing(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        // The map is valid after any panic: each change is one insert or remove.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The three routes; two, where the metrics are somewhere else.
pub fn router(readiness: Readiness, metrics: Option<Metrics>) -> Router {
    let router = Router::new()
        .route("/healthz", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/readyz", get(readyz).with_state(readiness));
    match metrics {
        Some(metrics) => router.merge(metrics_router(metrics)),
        None => router,
    }
}

/// `/metrics`, as OpenMetrics text or as Prometheus' messages.
pub fn metrics_router(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(render).with_state(metrics))
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, Json<serde_json::Value>) {
    let missing = readiness.missing();
    if missing.is_empty() {
        (StatusCode::OK, Json(json!({"status": "ready"})))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "waiting", "waiting_for": missing})))
    }
}

async fn render(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    if wants_protobuf(&headers) {
        let typed = [(header::CONTENT_TYPE, PROTOBUF_CONTENT_TYPE)];
        return (typed, metrics.render_protobuf()).into_response();
    }
    ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], metrics.render()).into_response()
}
