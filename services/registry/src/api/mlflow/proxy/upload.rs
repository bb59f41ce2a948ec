//! Uploads through the artifact proxy.

use axum::Json;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::access::caller::Caller;
use crate::api::mlflow::error::Failure;
use crate::state::Registry;
use crate::tracking::artifacts;

pub(super) async fn put(
    State(registry): State<Registry>,
    caller: Caller,
    Path(path): Path<String>,
    body: Body,
) -> Result<Json<Value>, Failure> {
    store(&registry, caller, &path, body).await
}

/// Stores a file at a path of the proxy.
///
/// # Errors
/// As for [`artifacts::upload`].
pub(crate) async fn store(
    registry: &Registry,
    caller: Caller,
    path: &str,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let length_bytes = body.size_hint().exact();
    artifacts::upload(registry, caller, path, body.into_data_stream(), length_bytes).await?;
    Ok(Json(json!({})))
}
