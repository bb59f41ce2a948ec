//! Health, metadata, configuration and statistics.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};
use slipway_api::inference::model_config::SchedulingChoice;
use slipway_api::inference::model_ensembling::Step as EnsembleStep;
use slipway_api::inference::model_input::Format;
use slipway_api::inference::model_instance_group::Kind as InstanceKind;
use slipway_api::inference::model_metadata_response::TensorMetadata;
use slipway_api::inference::model_version_policy::PolicyChoice;
use slipway_api::inference::{
    DataType, InferBatchStatistics, ModelConfig, ModelMetadataResponse, ModelStatistics, StatisticDuration,
};

use super::{CalledBy, Model, RestState};
use crate::api::describe::{self, EXTENSIONS, SERVER_NAME};
use crate::api::statistics;
use crate::failure::Failure;

pub(super) async fn server() -> Json<Value> {
    Json(json!({"name": SERVER_NAME, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS}))
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

pub(super) async fn server_ready(State(state): State<RestState>) -> Response {
    let missing = state.readiness.missing();
    if missing.is_empty() {
        return Json(json!({"ready": true})).into_response();
    }
    let waiting: Vec<String> = missing.iter().map(|(part, reason)| format!("{part}: {reason}")).collect();
    let body = json!({"ready": false, "error": format!("not ready: {}", waiting.join("; "))});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

pub(super) async fn list(State(state): State<RestState>, caller: CalledBy) -> Json<Value> {
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
    State(state): State<RestState>,
    model: Model,
) -> Result<Json<Metadata>, Failure> {
    let model = model.checked()?;
    let ModelMetadataResponse { name, versions, platform, inputs, outputs } =
        describe::metadata(&state.routing, &model.name, model.version.as_deref())?;
    let specs = |specs: Vec<TensorMetadata>| specs.into_iter().map(Spec::from).collect();
    Ok(Json(Metadata { name, versions, platform, inputs: specs(inputs), outputs: specs(outputs) }))
}

pub(super) async fn ready(State(state): State<RestState>, model: Model) -> Result<Json<Value>, Failure> {
    let model = model.checked()?;
    describe::ready(&state.routing, &model.name, model.version.as_deref())?;
    Ok(Json(json!({"name": model.name, "ready": true})))
}

pub(super) async fn config(State(state): State<RestState>, model: Model) -> Result<Json<Value>, Failure> {
    let model = model.checked()?;
    let config = describe::config(&state.routing, &model.name, model.version.as_deref())?;
    Ok(Json(config_json(&config)))
}

/// Every field that a client may look for, defaults too, enumerations by name.
fn config_json(config: &ModelConfig) -> Value {
    let data_type = |value: i32| DataType::try_from(value).unwrap_or_default().as_str_name();
    let inputs: Vec<Value> = config
        .input
        .iter()
        .map(|input| {
            let format = Format::try_from(input.format).unwrap_or_default().as_str_name();
            json!({"name": input.name, "data_type": data_type(input.data_type), "format": format,
                   "dims": input.dims, "is_shape_tensor": false, "allow_ragged_batch": false,
                   "optional": input.optional})
        })
        .collect();
    let outputs: Vec<Value> = config
        .output
        .iter()
        .map(|output| {
            json!({"name": output.name, "data_type": data_type(output.data_type), "dims": output.dims,
                   "label_filename": output.label_filename, "is_shape_tensor": false})
        })
        .collect();
    let instances: Vec<Value> = config
        .instance_group
        .iter()
        .map(|group| {
            let kind = InstanceKind::try_from(group.kind).unwrap_or_default().as_str_name();
            json!({"name": group.name, "kind": kind, "count": group.count, "gpus": group.gpus,
                   "secondary_devices": [], "profile": [], "passive": false, "host_policy": ""})
        })
        .collect();
    let parameters: Map<String, Value> = config
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), json!({"string_value": value.string_value})))
        .collect();
    let versions = match config.version_policy.as_ref().and_then(|policy| policy.policy_choice.as_ref()) {
        Some(PolicyChoice::Specific(specific)) => specific.versions.clone(),
        None => Vec::new(),
    };
    let mut shown = json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "runtime": "",
        "version_policy": {"specific": {"versions": versions}},
        "max_batch_size": config.max_batch_size,
        "input": inputs,
        "output": outputs,
        "batch_input": [],
        "batch_output": [],
        "instance_group": instances,
        "default_model_filename": config.default_model_filename,
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": parameters,
        "model_warmup": [],
        "model_transaction_policy": {"decoupled": false},
    });
    if let Some(SchedulingChoice::DynamicBatching(batching)) = &config.scheduling_choice {
        shown["dynamic_batching"] = json!({
            "preferred_batch_size": batching.preferred_batch_size,
            "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
            "preserve_ordering": false, "priority_levels": 0, "default_priority_level": 0,
            "priority_queue_policy": {},
        });
    }
    if let Some(SchedulingChoice::EnsembleScheduling(ensemble)) = &config.scheduling_choice {
        let step = |step: &EnsembleStep| {
            json!({"model_name": step.model_name, "model_version": step.model_version, "model_namespace": "",
                   "input_map": step.input_map, "output_map": step.output_map})
        };
        shown["ensemble_scheduling"] = json!({"step": ensemble.step.iter().map(step).collect::<Vec<_>>()});
    }
    shown
}

pub(super) async fn model_statistics(
    State(state): State<RestState>,
    model: Model,
) -> Result<Json<Value>, Failure> {
    let model = model.checked()?;
    let statistics = statistics::statistics(&state.routing, Some(&model.name), model.version.as_deref())?;
    Ok(Json(statistics_json(&statistics)))
}

pub(super) async fn all_statistics(
    State(state): State<RestState>,
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
