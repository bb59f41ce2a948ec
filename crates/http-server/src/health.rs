//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Source of the content types: <https://prometheus.io/docs/instrumenting/content_negotiation/>.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::{CONTENT_TYPE, Metrics};

/// Content type of the messages.
const PROTOBUF_CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const MEDIA_TYPE: &str = "application/vnd.google.protobuf";
const MESSAGE: &str = "io.prometheus.client.metricfamily";

/// Whether a scraper asks for the messages: only one that collects native histograms names them first.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accepted.split(',').next().unwrap_or_default().to_ascii_lowercase();
    first.trim_start().starts_with(MEDIA_TYPE) && first.contains(MESSAGE) && first.contains("delimited")
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
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_messages_first_gets_them() {
        let wants = |accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            wants_protobuf(&headers)
        };
        // As Prometheus 3 sends it with and without native histograms.
        assert!(wants(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"
        ));
        assert!(!wants(
            "application/openmetrics-text;version=1.0.0;q=0.5,application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.2"
        ));
        assert!(!wants("*/*") && !wants_protobuf(&HeaderMap::new()));
    }
}
