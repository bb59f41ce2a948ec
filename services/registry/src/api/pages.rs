//! What the guard against web pages has to know of this service: which routes take files, and how each API
//! answers a refusal.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::Method;
use serde_json::json;
use slipway_http_server::{Bodies, Guard, Refusal, health};

use crate::api::mlflow::OTLP_TRACES;

/// Files of the artifact proxy, below `/api` and `/ajax-api`.
const PROXY: &str = "/2.0/mlflow-artifacts/artifacts/";
/// Files from MLflow's web page.
const UPLOAD: &str = "/ajax-api/2.0/mlflow/upload-artifact";

/// Whether a path is that of a run's file in REST v1, or of a file of an import.
fn is_content(path: &str) -> bool {
    (path.starts_with("/api/v1/runs/") && path.ends_with("/artifacts/content"))
        || (path.starts_with("/api/v1/imports/") && path.ends_with("/files"))
}

/// The guard of this service.
pub(crate) fn guard(guard: Guard) -> Guard {
    guard.with_bodies(bodies).with_shape(shape)
}

fn bodies(method: &Method, path: &str) -> Bodies {
    let below = path.strip_prefix("/api").or_else(|| path.strip_prefix("/ajax-api"));
    let is_file = (*method == Method::PUT
        && (below.is_some_and(|path| path.starts_with(PROXY)) || is_content(path)))
        || (*method == Method::POST && (path == UPLOAD || path == OTLP_TRACES));
    if is_file { Bodies::File } else { Bodies::Json }
}

/// Whether a path is one of REST v1, of its description, or of those that every service has.
pub(crate) fn is_rest(path: &str) -> bool {
    path.starts_with("/api/v1/") || matches!(path, "/openapi.json" | "/docs") || health::PATHS.contains(&path)
}

/// MLflow's shape on all routes but those of REST v1.
fn shape(refusal: &Refusal, path: &str) -> Response {
    if is_rest(path) {
        return refusal.problem().into_response();
    }
    let error_code = match refusal {
        Refusal::Host { .. } | Refusal::Origin { .. } => "PERMISSION_DENIED",
        Refusal::MediaType { .. } => "INVALID_PARAMETER_VALUE",
    };
    let message = match refusal {
        Refusal::MediaType { .. } => format!("Unsupported Media Type. {}", refusal.detail()),
        _ => refusal.detail(),
    };
    (refusal.status(), Json(json!({"error_code": error_code, "message": message}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_by_the_artifact_proxy_alone() {
        for (method, path, expected) in [
            (Method::PUT, "/api/2.0/mlflow-artifacts/artifacts/1/a/b.txt", Bodies::File),
            (Method::PUT, "/ajax-api/2.0/mlflow-artifacts/artifacts/b", Bodies::File),
            (Method::POST, "/ajax-api/2.0/mlflow/upload-artifact", Bodies::File),
            (Method::POST, "/v1/traces", Bodies::File),
            (Method::PUT, "/api/v1/runs/r/artifacts/content", Bodies::File),
            (Method::PUT, "/api/v1/imports/i/files", Bodies::File),
            (Method::POST, "/api/v1/imports/i/complete", Bodies::Json),
            (Method::PUT, "/api/v1/models/m/versions/1/signature", Bodies::Json),
            (Method::POST, "/api/2.0/mlflow-artifacts/artifacts/1/a", Bodies::Json),
            (Method::POST, "/api/2.0/mlflow-artifacts/mpu/create/1", Bodies::Json),
            (Method::POST, "/api/2.0/mlflow/runs/create", Bodies::Json),
            (Method::PUT, "/api/v1/grants", Bodies::Json),
        ] {
            assert_eq!(bodies(&method, path), expected, "{method} {path}");
        }
    }
}
