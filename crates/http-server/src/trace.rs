//! One span a request, a child of the caller's span where the request says so. Serves REST and gRPC alike.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use slipway_telemetry::context::TRACEPARENT;
use tracing::{Instrument as _, Span};

use crate::requests::known_method;

/// Frequent health checks, for which "not ready" is a normal response: they are neither traced nor logged.
const PROBES: [&str; 8] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/v2/health/live",
    "/v2/health/ready",
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
];

/// Middleware: opens the request's span and logs failures of the server.
pub(crate) async fn trace_request(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or(path.as_str(), MatchedPath::as_str);
    if PROBES.contains(&path.as_str()) {
        return next.run(request).await;
    }
    let begins = request.headers().contains_key(TRACEPARENT) || slipway_telemetry::spans::begins_at(&path);
    if slipway_telemetry::is_exporting() && !begins {
        return next.run(request).await;
    }
    let span = span(&request, route);
    let response = next.run(request).instrument(span.clone()).await;
    end(&span, response.status());
    response
}

/// The span of a request: a child of its caller's.
pub(crate) fn span(request: &Request, route: &str) -> Span {
    // The names of OpenTelemetry's conventions for unknown methods.
    let known = known_method(request.method());
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{} {route}", known.unwrap_or("HTTP")),
        otel.kind = "server",
        http.request.method = known.unwrap_or("_OTHER"),
        url.path = request.uri().path(),
        http.response.status_code = tracing::field::Empty,
    );
    let traceparent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    slipway_telemetry::set_parent(&span, traceparent);
    span
}

/// Notes how the request ended.
pub(crate) fn end(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        let _entered = span.enter();
        tracing::warn!(status = status.as_u16(), "the request failed");
    }
}
