//! Health, metadata, configuration and statistics.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use slipway_api::inference::model_metadata_response::TensorMetadata;
use slipway_api::inference::{
    InferBatchStatistics, ModelMetadataResponse, ModelStatistics, StatisticDuration,
};

use super::extract::{CalledBy, Model};
use crate::api::describe::{self, EXTENSIONS, SERVER_NAME};
use crate::api::statistics;
use crate::failure::Failure;
use crate::state::ServingState;

pub(super) async fn server() -> Json<Value> {
    Json(json!({"name": SERVER_NAME, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS}))
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

pub(super) async fn server_ready(State(state): State<ServingState>) -> Response {
    let missing = state.readiness.missing();
    if missing.is_empty() {
        return Json(json!({"ready": true})).into_response();
    }
    let waiting: Vec<String> = missing.iter().map(|(part, reason)| format!("{part}: {reason}")).collect();
    let body = json!({"ready": false, "error": format!("not ready: {}", waiting.join("; "))});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

pub(super) async fn list(State(state): State<ServingState>, caller: CalledBy) -> Json<Value> {
    let (routes, sees) = (state.routing.all(), state.access.sees(caller.as_deref()));
    Json(json!({"models": routes.keys().filter(|name| sees(name)).collect::<Vec<_>>()}))
}

/// Metadata as JSON has them, in Triton's order. Clients ask for them before each prediction, some of them.
#[derive(Serialize)]
pub(super) struct Metadata {
    name: String,
    versions: Vec<String>,
    platform: String,
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
}

#[derive(Serialize)]
struct Spec {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

impl From<TensorMetadata> for Spec {
    fn from(TensorMetadata { name, datatype, shape }: TensorMetadata) -> Self {
        Self { name, datatype, shape }
    }
}

pub(super) async fn metadata(
    State(state): State<ServingState>,
    model: Model,
) -> Result<Json<Metadata>, Failure> {
    let model = model.checked()?;
    let ModelMetadataResponse { name, versions, platform, inputs, outputs } =
        describe::metadata(&state.routing, &model.name, model.version.as_deref())?;
    let specs = |specs: Vec<TensorMetadata>| specs.into_iter().map(Spec::from).collect();
    Ok(Json(Metadata { name, versions, platform, inputs: specs(inputs), outputs: specs(outputs) }))
}

pub(super) async fn ready(State(state): State<ServingState>, model: Model) -> Result<Json<Value>, Failure> {
    let model = model.checked()?;
    describe::ready(&state.routing, &model.name, model.version.as_deref())?;
    Ok(Json(json!({"name": model.name, "ready": true})))
}

pub(super) async fn model_statistics(
    State(state): State<ServingState>,
    model: Model,
) -> Result<Json<Value>, Failure> {
    let model = model.checked()?;
    let statistics = statistics::statistics(&state.routing, Some(&model.name), model.version.as_deref())?;
    Ok(Json(statistics_json(&statistics)))
}

pub(super) async fn all_statistics(
    State(state): State<ServingState>,
    caller: CalledBy,
) -> Result<Json<Value>, Failure> {
    let mut all = statistics::statistics(&state.routing, None, None)?;
    let sees = state.access.sees(caller.as_deref());
    all.retain(|model| sees(&model.name));
    Ok(Json(statistics_json(&all)))
}

fn statistics_json(statistics: &[ModelStatistics]) -> Value {
    let duration = |duration: Option<StatisticDuration>| {
        let duration = duration.unwrap_or_default();
        json!({"count": duration.count, "ns": duration.ns})
    };
    let batch = |batch: &InferBatchStatistics| {
        json!({
            "batch_size": batch.batch_size,
            "compute_input": duration(batch.compute_input),
            "compute_infer": duration(batch.compute_infer),
            "compute_output": duration(batch.compute_output),
        })
    };
    let one = |model: &ModelStatistics| {
        let infer = model.inference_stats.unwrap_or_default();
        json!({
            "name": model.name,
            "version": model.version,
            "last_inference": model.last_inference,
            "inference_count": model.inference_count,
            "execution_count": model.execution_count,
            "inference_stats": {
                "success": duration(infer.success),
                "fail": duration(infer.fail),
                "queue": duration(infer.queue),
                "compute_input": duration(infer.compute_input),
                "compute_infer": duration(infer.compute_infer),
                "compute_output": duration(infer.compute_output),
                "cache_hit": duration(infer.cache_hit),
                "cache_miss": duration(infer.cache_miss),
            },
            "response_stats": {},
            "batch_stats": model.batch_stats.iter().map(batch).collect::<Vec<_>>(),
            "memory_usage": [],
        })
    };
    json!({"model_stats": statistics.iter().map(one).collect::<Vec<_>>()})
}
