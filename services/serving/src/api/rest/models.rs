//! Health, metadata, configuration and statistics.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use slipway_api::inference::model_metadata_response::TensorMetadata;
use slipway_api::inference::{
    InferBatchStatistics, ModelMetadataResponse, ModelStatistics as Counted, StatisticDuration,
};
use slipway_api::rest::serving::{
    BatchStatistics, DurationStatistics, EmptyObject, InferenceStatistics, ModelList, ModelMetadata,
    ModelReady, ModelStatistics, ServerLive, ServerMetadata, ServerReady, StatisticsResponse, TensorSpec,
};
use slipway_openapi::{DocumentedRouter, routes};

use super::VERSIONED;
use super::extract::{CalledBy, Model};
use crate::api::describe::{self, EXTENSIONS, SERVER_NAME};
use crate::api::statistics;
use crate::failure::Failure;
use crate::state::ServingState;

pub(super) fn router() -> DocumentedRouter<ServingState> {
    let router = DocumentedRouter::new()
        .routes(routes!(server))
        .routes(routes!(live))
        .routes(routes!(server_ready))
        .routes(routes!(list))
        .routes(routes!(all_statistics))
        .routes(routes!(metadata))
        .routes(routes!(ready))
        .routes(routes!(model_statistics));
    let router = router.also("/v2", "/v2/", get(server));
    let router = router.also("/v2/models", "/v1/models", get(list));
    let router = router.also("/v2/models/{name}", VERSIONED, get(metadata));
    let router = router.also("/v2/models/{name}/ready", &format!("{VERSIONED}/ready"), get(ready));
    router.also("/v2/models/{name}/stats", &format!("{VERSIONED}/stats"), get(model_statistics))
}

/// Shows the server and the extensions of the protocol that it supports.
#[utoipa::path(get, path = "/v2", tag = "server", responses((status = 200, body = ServerMetadata)))]
async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: SERVER_NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.iter().map(ToString::to_string).collect(),
    })
}

/// Checks that the server is alive.
#[utoipa::path(get, path = "/v2/health/live", tag = "server", responses((status = 200, body = ServerLive)))]
async fn live() -> Json<ServerLive> {
    Json(ServerLive { live: true })
}

/// Checks that the server is ready: every version that a traffic table names is loaded.
#[utoipa::path(get, path = "/v2/health/ready", tag = "server", responses((status = 200, body = ServerReady),
    (status = 503, description = "Not ready; `error` lists what is missing", body = ServerReady)))]
async fn server_ready(State(state): State<ServingState>) -> (StatusCode, Json<ServerReady>) {
    let missing = state.readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, Json(ServerReady { ready: true, error: None }));
    }
    let waiting: Vec<String> = missing.iter().map(|(part, reason)| format!("{part}: {reason}")).collect();
    let error = Some(format!("not ready: {}", waiting.join("; ")));
    (StatusCode::SERVICE_UNAVAILABLE, Json(ServerReady { ready: false, error }))
}

/// Lists deployments that the caller may use.
#[utoipa::path(get, path = "/v2/models", tag = "models", responses((status = 200, body = ModelList)))]
async fn list(State(state): State<ServingState>, caller: CalledBy) -> Json<ModelList> {
    let (routes, sees) = (state.routing.all(), state.access.sees(caller.as_deref()));
    Json(ModelList { models: routes.keys().filter(|name| sees(name)).cloned().collect() })
}

fn spec(TensorMetadata { name, datatype, shape }: TensorMetadata) -> TensorSpec {
    TensorSpec { name, datatype, shape }
}

/// Shows inputs and outputs of a model.
// Some clients ask for them before each prediction.
#[utoipa::path(get, path = "/v2/models/{name}", tag = "models", params(("name" = String, Path,
    description = "Deployment")),
    responses((status = 200, body = ModelMetadata)))]
async fn metadata(State(state): State<ServingState>, model: Model) -> Result<Json<ModelMetadata>, Failure> {
    let model = model.checked()?;
    let ModelMetadataResponse { name, versions, platform, inputs, outputs } =
        describe::metadata(&state.routing, &model.name, model.version.as_deref())?;
    let specs = |specs: Vec<TensorMetadata>| specs.into_iter().map(spec).collect();
    Ok(Json(ModelMetadata { name, versions, platform, inputs: specs(inputs), outputs: specs(outputs) }))
}

/// Checks that a model is ready.
#[utoipa::path(get, path = "/v2/models/{name}/ready", tag = "models", params(("name" = String, Path,
    description = "Deployment")),
    responses((status = 200, body = ModelReady)))]
async fn ready(State(state): State<ServingState>, model: Model) -> Result<Json<ModelReady>, Failure> {
    let model = model.checked()?;
    describe::ready(&state.routing, &model.name, model.version.as_deref())?;
    Ok(Json(ModelReady { name: model.name, ready: true }))
}

/// Shows statistics of a model.
#[utoipa::path(get, path = "/v2/models/{name}/stats", tag = "statistics", params(("name" = String, Path,
    description = "Deployment")),
    responses((status = 200, body = StatisticsResponse)))]
async fn model_statistics(
    State(state): State<ServingState>,
    model: Model,
) -> Result<Json<StatisticsResponse>, Failure> {
    let model = model.checked()?;
    let counted = statistics::statistics(&state.routing, Some(&model.name), model.version.as_deref())?;
    Ok(Json(shown(&counted)))
}

/// Shows statistics of all models that the caller may use.
#[utoipa::path(get, path = "/v2/models/stats", tag = "statistics",
    responses((status = 200, body = StatisticsResponse)))]
async fn all_statistics(
    State(state): State<ServingState>,
    caller: CalledBy,
) -> Result<Json<StatisticsResponse>, Failure> {
    let mut all = statistics::statistics(&state.routing, None, None)?;
    let sees = state.access.sees(caller.as_deref());
    all.retain(|model| sees(&model.name));
    Ok(Json(shown(&all)))
}

fn shown(counted: &[Counted]) -> StatisticsResponse {
    StatisticsResponse { model_stats: counted.iter().map(of_model).collect() }
}

fn of_model(counted: &Counted) -> ModelStatistics {
    let infer = counted.inference_stats.unwrap_or_default();
    ModelStatistics {
        name: counted.name.clone(),
        version: counted.version.clone(),
        last_inference: counted.last_inference,
        inference_count: counted.inference_count,
        execution_count: counted.execution_count,
        inference_stats: InferenceStatistics {
            success: duration(infer.success),
            fail: duration(infer.fail),
            queue: duration(infer.queue),
            compute_input: duration(infer.compute_input),
            compute_infer: duration(infer.compute_infer),
            compute_output: duration(infer.compute_output),
            cache_hit: duration(infer.cache_hit),
            cache_miss: duration(infer.cache_miss),
        },
        response_stats: EmptyObject {},
        batch_stats: counted.batch_stats.iter().map(of_batch).collect(),
        memory_usage: Vec::new(),
    }
}

fn of_batch(batch: &InferBatchStatistics) -> BatchStatistics {
    BatchStatistics {
        batch_size: batch.batch_size,
        compute_input: duration(batch.compute_input),
        compute_infer: duration(batch.compute_infer),
        compute_output: duration(batch.compute_output),
    }
}

fn duration(duration: Option<StatisticDuration>) -> DurationStatistics {
    let duration = duration.unwrap_or_default();
    DurationStatistics { count: duration.count, ns: duration.ns }
}
