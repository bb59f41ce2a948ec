//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Source of the content types: <https://prometheus.io/docs/instrumenting/content_negotiation/>.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::{CONTENT_TYPE, Metrics};
use utoipa::{OpenApi as _, ToSchema};

/// Paths that every service serves without authentication.
pub const PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Content type of the messages.
const PROTOBUF_CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const MEDIA_TYPE: &str = "application/vnd.google.protobuf";
const MESSAGE: &str = "io.prometheus.client.metricfamily";

/// Liveness of a service.
#[derive(Debug, Serialize, ToSchema)]
struct Liveness {
    /// Always `ok`: a service that is not alive does not respond.
    status: LivenessStatus,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LivenessStatus {
    Ok,
}

/// Readiness of a service.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceReadiness {
    status: ReadinessStatus,
    /// Why the service is not ready, by dependency, e.g. `{"nats": "not connected yet"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    waiting_for: BTreeMap<String, String>,
    /// What operators should know although it does not keep the service from being ready, by part.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ReadinessStatus {
    Ready,
    Waiting,
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(healthz, readyz, render))]
struct Described;

/// The OpenAPI description of the three routes.
pub fn described() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

/// Whether a scraper asks for the messages: only one that collects native histograms names them first.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accepted.split(',').next().unwrap_or_default().to_ascii_lowercase();
    first.trim_start().starts_with(MEDIA_TYPE) && first.contains(MESSAGE) && first.contains("delimited")
}

/// The three routes; two, where the metrics are somewhere else.
pub fn router(readiness: Readiness, metrics: Option<Metrics>) -> Router {
    let router =
        Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz).with_state(readiness));
    match metrics {
        Some(metrics) => router.merge(metrics_router(metrics)),
        None => router,
    }
}

/// `/metrics`, as OpenMetrics text or as Prometheus' messages.
pub fn metrics_router(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(render).with_state(metrics))
}

/// Checks that the service is alive.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "The service is alive", body = Liveness)))]
async fn healthz() -> Json<Liveness> {
    Json(Liveness { status: LivenessStatus::Ok })
}

/// Checks that the service is ready: all of its dependencies are available.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "Ready", body = ServiceReadiness),
    (status = 503, description = "Not ready; `waiting_for` lists the reasons", body = ServiceReadiness)))]
async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, Json<ServiceReadiness>) {
    let (waiting_for, notes) = (readiness.missing(), readiness.notes());
    if waiting_for.is_empty() {
        (StatusCode::OK, Json(ServiceReadiness { status: ReadinessStatus::Ready, waiting_for, notes }))
    } else {
        let waiting = ServiceReadiness { status: ReadinessStatus::Waiting, waiting_for, notes };
        (StatusCode::SERVICE_UNAVAILABLE, Json(waiting))
    }
}

/// Returns metrics for Prometheus: as OpenMetrics text or, if `Accept` prefers it, as protobuf messages with
/// native histograms.
#[utoipa::path(get, path = "/metrics", tag = "health", security(()),
    responses((status = 200, description = "Metrics of this process",
        content((String = "application/openmetrics-text"), (Vec<u8> = "application/vnd.google.protobuf")))))]
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
