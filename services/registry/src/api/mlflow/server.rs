//! What clients ask about the server itself, and the answer to what it does not serve.

use axum::extract::{Request, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Answer;
use super::error::Failure;
use crate::state::Registry;

/// The MLflow release whose behaviour this API follows.
const MLFLOW_VERSION: &str = "3.17.2";

/// Where MLflow's server takes spans, as protobuf.
pub(crate) const OTLP_TRACES: &str = "/v1/traces";

pub(super) fn router() -> Router<Registry> {
    Router::new()
        .route("/health", get(async || "OK"))
        .route("/version", get(async || MLFLOW_VERSION))
        .route("/api/3.0/mlflow/server-info", get(info))
        .route("/ajax-api/3.0/mlflow/server-info", get(info))
        // Spans by OTLP, as clients of MLflow 3 send them next to their traces.
        .route(OTLP_TRACES, axum::routing::any(no_endpoint))
}

/// With an address of the artifact store that clients reach, they send and fetch large files there.
async fn info(State(registry): State<Registry>) -> Json<Value> {
    Json(json!({
        "store_type": "SqlStore",
        "workspaces_enabled": false,
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": registry.direct_artifacts,
        "multipart_downloads_enabled": registry.direct_artifacts,
        "artifact_serving_enabled": true,
        "presigned_upload_run_id_supported": true,
        "presigned_upload_model_id_supported": true,
        "features_enabled": {},
        "artifacts_presigned_only": false,
    }))
}

/// 404 in MLflow's shape, which sends clients on to their next way of asking.
pub(super) async fn no_endpoint(request: Request) -> Answer {
    Err(Failure::no_endpoint(request.method(), request.uri().path()))
}
