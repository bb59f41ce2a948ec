//! Traces of predictions whose model is known only once their message is read.

use slipway_telemetry::spans::{self, Collected};
use tracing::Span;

use crate::api::paths::path_of;

/// The span of a request over gRPC whose model is known now; `None` where it begins no trace, or is part of
/// one.
pub(super) fn span_of(model: &str) -> Option<Span> {
    let begins = slipway_telemetry::is_exporting()
        && Collected::current().is_none()
        && spans::begins_at(&path_of(model));
    begins.then(|| {
        tracing::info_span!(
            parent: None,
            "request",
            otel.name = "POST /inference.GRPCInferenceService/{*method}",
            otel.kind = "server",
            http.request.method = "POST",
            url.path = "/inference.GRPCInferenceService/ModelInfer",
        )
    })
}
