//! What is served, as metadata, configuration, statistics and an index; one truth for REST and gRPC.

use slipway_api::inference::model_metadata_response::TensorMetadata;
use slipway_api::inference::repository_index_response::ModelIndex;
use slipway_api::inference::{
    DataType, InferStatistics, ModelConfig, ModelInput, ModelMetadataResponse, ModelOutput, ModelStatistics,
    ModelTransactionPolicy, StatisticDuration,
};
use slipway_api::traffic::VersionState;
use slipway_inference::{Datatype, TensorSpec};

use crate::failure::Failure;
use crate::routing::{Pick, Route, Routing};
use crate::stats::Snapshot;

/// Name of the server in its metadata.
pub(crate) const SERVER_NAME: &str = "slipway";
/// Protocol extensions that are served.
pub(crate) const EXTENSIONS: [&str; 5] =
    ["binary_tensor_data", "parameters", "model_configuration", "model_repository", "statistics"];

const PLATFORM: &str = "onnxruntime_onnx";
const BACKEND: &str = "onnxruntime";

/// Whether a text can be a version: digits only, as the protocol says.
pub(crate) fn is_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Metadata of a deployment, or of one of its versions.
///
/// # Errors
/// Unknown, or not ready.
pub(crate) fn metadata(
    routing: &Routing,
    name: &str,
    version: Option<&str>,
) -> Result<ModelMetadataResponse, Failure> {
    let route = routing.get(name)?;
    let pick = pick(&route, version)?;
    let specs = |specs: &[TensorSpec]| {
        let one = |spec: &TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.datatype.name().to_owned(),
            shape: spec.shape.clone(),
        };
        specs.iter().map(one).collect()
    };
    let versions = match version {
        Some(version) => vec![version.to_owned()],
        None => route.ready_versions().into_iter().map(str::to_owned).collect(),
    };
    let signature = pick.model.signature();
    Ok(ModelMetadataResponse {
        name: name.to_owned(),
        versions,
        platform: PLATFORM.to_owned(),
        inputs: specs(&signature.inputs),
        outputs: specs(&signature.outputs),
    })
}

/// Whether the deployment, or the version of it, answers now.
///
/// # Errors
/// Unknown, or not ready and why.
pub(crate) fn ready(routing: &Routing, name: &str, version: Option<&str>) -> Result<(), Failure> {
    pick(&*routing.get(name)?, version).map(|_| ())
}

/// Configuration as Triton's clients read it. The batch dimension is part of the shapes, so `max_batch_size` is 0.
///
/// # Errors
/// Unknown, or not ready.
pub(crate) fn config(routing: &Routing, name: &str, version: Option<&str>) -> Result<ModelConfig, Failure> {
    let pick = pick(&*routing.get(name)?, version)?;
    let signature = pick.model.signature();
    let input = |spec: &TensorSpec| ModelInput {
        name: spec.name.clone(),
        data_type: data_type(spec.datatype).into(),
        dims: spec.shape.clone(),
        ..ModelInput::default()
    };
    let output = |spec: &TensorSpec| ModelOutput {
        name: spec.name.clone(),
        data_type: data_type(spec.datatype).into(),
        dims: spec.shape.clone(),
        ..ModelOutput::default()
    };
    Ok(ModelConfig {
        name: name.to_owned(),
        platform: PLATFORM.to_owned(),
        backend: BACKEND.to_owned(),
        default_model_filename: "model.onnx".to_owned(),
        input: signature.inputs.iter().map(input).collect(),
        output: signature.outputs.iter().map(output).collect(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        ..ModelConfig::default()
    })
}

/// Statistics of every version of one deployment, of one of its versions, or of all deployments.
///
/// # Errors
/// Unknown.
pub(crate) fn statistics(
    routing: &Routing,
    name: Option<&str>,
    version: Option<&str>,
) -> Result<Vec<ModelStatistics>, Failure> {
    if let Some(name) = name {
        let route = routing.get(name)?;
        if let Some(version) = version.filter(|version| !route.versions.contains_key(*version)) {
            return Err(Failure::not_found(format!("unknown version '{version}' of model '{name}'")));
        }
    }
    let routes = routing.all();
    let wanted = routes.iter().filter(|(route, _)| name.is_none_or(|name| name == route.as_str()));
    let versions =
        wanted.flat_map(|(name, route)| route.versions.values().map(move |version| (name, version)));
    Ok(versions
        .filter(|(_, known)| version.is_none_or(|version| version == known.target.version))
        .map(|(name, known)| model_statistics(name, &known.target.version, known.stats.snapshot()))
        .collect())
}

/// Every version of every deployment and its state.
pub(crate) fn index(routing: &Routing, only_ready: bool) -> Vec<ModelIndex> {
    let routes = routing.all();
    let versions =
        routes.iter().flat_map(|(name, route)| route.versions.values().map(move |version| (name, version)));
    versions
        .filter(|(_, version)| !only_ready || version.state == VersionState::Ready)
        .map(|(name, version)| ModelIndex {
            name: name.clone(),
            version: version.target.version.clone(),
            state: match version.state {
                VersionState::Ready => "READY",
                VersionState::Loading => "LOADING",
                VersionState::Failed => "UNAVAILABLE",
            }
            .to_owned(),
            reason: version.reason.clone().unwrap_or_default(),
        })
        .collect()
}

fn pick(route: &Route, version: Option<&str>) -> Result<Pick, Failure> {
    version.map_or_else(|| route.representative(), |version| route.pinned(version))
}

fn model_statistics(name: &str, version: &str, stats: Snapshot) -> ModelStatistics {
    let duration = |count, ns| Some(StatisticDuration { count, ns });
    ModelStatistics {
        name: name.to_owned(),
        version: version.to_owned(),
        last_inference: stats.last_unix_ms,
        inference_count: stats.rows,
        execution_count: stats.success,
        inference_stats: Some(InferStatistics {
            success: duration(stats.success, stats.success_ns),
            fail: duration(stats.fail, stats.fail_ns),
            queue: duration(stats.success, stats.queue_ns),
            compute_input: duration(stats.success, 0),
            compute_infer: duration(stats.success, stats.compute_ns),
            compute_output: duration(stats.success, 0),
            cache_hit: duration(0, 0),
            cache_miss: duration(0, 0),
        }),
        ..ModelStatistics::default()
    }
}

const fn data_type(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::TypeBool,
        Datatype::Int8 => DataType::TypeInt8,
        Datatype::Int16 => DataType::TypeInt16,
        Datatype::Int32 => DataType::TypeInt32,
        Datatype::Int64 => DataType::TypeInt64,
        Datatype::Uint8 => DataType::TypeUint8,
        Datatype::Uint16 => DataType::TypeUint16,
        Datatype::Uint32 => DataType::TypeUint32,
        Datatype::Uint64 => DataType::TypeUint64,
        Datatype::Fp16 => DataType::TypeFp16,
        Datatype::Bf16 => DataType::TypeBf16,
        Datatype::Fp32 => DataType::TypeFp32,
        Datatype::Fp64 => DataType::TypeFp64,
        Datatype::Bytes => DataType::TypeString,
    }
}
