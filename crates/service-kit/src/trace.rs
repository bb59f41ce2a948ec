//! One span a request, a child of the caller's span where the request says so. Serves REST and gRPC alike.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use slipway_telemetry::context::TRACEPARENT;
use tracing::Instrument as _;

/// Middleware: opens the request's span and logs failures of the server.
pub(crate) async fn trace_request(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or(path.as_str(), MatchedPath::as_str);
    if matches!(route, "/healthz" | "/readyz" | "/metrics") {
        return next.run(request).await;
    }
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = %method,
        url.path = path,
        http.response.status_code = tracing::field::Empty,
    );
    let traceparent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    slipway_telemetry::set_parent(&span, traceparent);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        let _entered = span.enter();
        tracing::warn!(status = response.status().as_u16(), "the request failed");
    }
    response
}
