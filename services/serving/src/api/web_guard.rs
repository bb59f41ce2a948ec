//! What the guard against web pages has to know of this service: which routes take tensors, and the
//! protocol's shape of errors.

use axum::response::{IntoResponse as _, Response};
use http::{Method, header};
use slipway_http_server::{Bodies, Guard, Refusal};

use super::paths::is_own;

/// The guard of this service.
pub(crate) fn guard(guard: Guard) -> Guard {
    guard.with_bodies(bodies).with_shape(shape)
}

/// Triton's and KServe's routes take what their clients send; labels, which are this service's own, are JSON.
fn bodies(_method: &Method, path: &str) -> Bodies {
    if is_own(path) { Bodies::Json } else { Bodies::OpenInference }
}

fn shape(refusal: &Refusal, path: &str) -> Response {
    if is_own(path) {
        return refusal.problem().into_response();
    }
    let body = serde_json::json!({ "error": refusal.detail() }).to_string();
    (refusal.status(), [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
