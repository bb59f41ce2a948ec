//! What is served, as metadata and configuration; one truth for REST and gRPC.

use slipway_api::inference::model_config::SchedulingChoice;
use slipway_api::inference::model_ensembling::Step as EnsembleStep;
use slipway_api::inference::model_instance_group::Kind as InstanceKind;
use slipway_api::inference::model_metadata_response::TensorMetadata;
use slipway_api::inference::model_version_policy::{PolicyChoice, Specific};
use slipway_api::inference::{
    DataType, ModelConfig, ModelDynamicBatching, ModelEnsembling, ModelInput, ModelInstanceGroup,
    ModelMetadataResponse, ModelOutput, ModelParameter, ModelTransactionPolicy, ModelVersionPolicy,
};
use slipway_domain::ensemble::{Definition, Step};
use slipway_inference::{Batching, Datatype, Device, TensorSpec};

use crate::failure::Failure;
use crate::models::folder::MODEL_FILE;
use crate::models::routing::{Pick, Route, Routing};

/// Name of the server in its metadata.
pub(crate) const SERVER_NAME: &str = "slipway";
/// Protocol extensions that are served.
pub(crate) const EXTENSIONS: [&str; 8] = [
    "binary_tensor_data",
    "classification",
    "parameters",
    "model_configuration",
    "model_repository",
    "statistics",
    "trace",
    "logging",
];

const PLATFORM: &str = "onnxruntime_onnx";
const BACKEND: &str = "onnxruntime";
const ENSEMBLE_PLATFORM: &str = "ensemble";
/// Parts of one model that run at the same time; a session runs them one after another.
const INTER_THREADS: usize = 1;

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
    let specs = |specs: &[TensorSpec]| -> Vec<TensorMetadata> {
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
    let signature = &pick.described.signature;
    Ok(ModelMetadataResponse {
        name: name.to_owned(),
        versions,
        platform: platform(&pick).0.to_owned(),
        // Which of them may be left out, only the configuration has a place for.
        inputs: [specs(&signature.inputs), specs(&signature.optional)].concat(),
        outputs: specs(&signature.outputs),
    })
}

/// Whether the deployment, or the version of it, answers now.
///
/// # Errors
/// Unknown, or not ready and why.
pub(crate) fn ready(routing: &Routing, name: &str, version: Option<&str>) -> Result<(), Failure> {
    let route = routing.get(name)?;
    route.answers()?;
    let pick = pick(&route, version)?;
    route.loads_again(&pick.source.version)
}

/// Configuration as Triton's clients read it: where `max_batch_size` is above 0, the dimensions are without the batch.
///
/// # Errors
/// Unknown, or not ready.
pub(crate) fn config(routing: &Routing, name: &str, version: Option<&str>) -> Result<ModelConfig, Failure> {
    let route = routing.get(name)?;
    let pick = pick(&route, version)?;
    let (signature, options) = (&pick.described.signature, &pick.described.options);
    let (platform, backend, file) = platform(&pick);
    // It is measured anew when the version is loaded again.
    let memory = pick.resident.described().map(|described| described.memory).unwrap_or_default();
    let batching = &options.batching;
    // An audit may have stopped it.
    let joining =
        pick.resident.served().map_or_else(|| pick.described.joining.clone(), |served| served.joining());
    let joined = joining.is_on();
    let parameters = [
        ("intra_op_thread_count", options.intra_threads),
        ("inter_op_thread_count", INTER_THREADS),
        ("max_queue_size", options.queue_limit),
        ("max_joined_rows", if joined { batching.max_rows } else { 1 }),
        ("max_queue_delay_microseconds", usize::try_from(batching.delay.as_micros()).unwrap_or(usize::MAX)),
        ("memory_bytes", usize::try_from(memory.bytes).unwrap_or(usize::MAX)),
    ];
    let of_device = memory
        .device
        .map(|device| ("device_memory_bytes", usize::try_from(device.bytes).unwrap_or(usize::MAX)));
    let labels = &pick.described.beside.labels;
    let classes = signature.outputs.iter().filter(|spec| !labels.of(&spec.name).is_empty()).map(|spec| {
        let names = serde_json::Value::from(labels.of(&spec.name));
        (format!("classes.{}", spec.name), names.to_string())
    });
    let max_batch_size = pick.described.max_batch_size(joined);
    let dims = |spec: &TensorSpec| spec.shape.iter().skip(usize::from(max_batch_size > 0)).copied().collect();
    let kind = match pick.described.device {
        Device::Cpu => InstanceKind::Cpu,
        Device::Cuda | Device::TensorRt => InstanceKind::Gpu,
    };
    let formats = &pick.described.beside.formats;
    let input = |spec: &TensorSpec, optional: bool| ModelInput {
        name: spec.name.clone(),
        data_type: data_type(spec.datatype).into(),
        format: formats.get(&spec.name).copied().unwrap_or_default(),
        dims: if optional { spec.shape.clone() } else { dims(spec) },
        optional,
    };
    let needed = signature.inputs.iter().map(|spec| input(spec, false));
    let optional = signature.optional.iter().map(|spec| input(spec, true));
    let output = |spec: &TensorSpec| ModelOutput {
        name: spec.name.clone(),
        data_type: data_type(spec.datatype).into(),
        dims: dims(spec),
        label_filename: pick.described.beside.labels.file(&spec.name).to_owned(),
    };
    Ok(ModelConfig {
        name: name.to_owned(),
        platform: platform.to_owned(),
        backend: backend.to_owned(),
        max_batch_size: number(max_batch_size),
        default_model_filename: file.to_owned(),
        input: needed.chain(optional).collect(),
        output: signature.outputs.iter().map(output).collect(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(PolicyChoice::Specific(Specific {
                versions: numbers(&route.ready_versions()),
            })),
        }),
        instance_group: vec![ModelInstanceGroup {
            name: format!("{name}_0"),
            count: number(options.parallel_runs()),
            gpus: memory.device.and_then(|device| i32::try_from(device.index).ok()).into_iter().collect(),
            kind: kind.into(),
        }],
        parameters: parameters
            .into_iter()
            .chain(of_device)
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .chain([("requests_joined".to_owned(), joined.to_string())])
            .chain([("requests_joined_reason".to_owned(), joining.to_string())])
            .chain(classes)
            .map(|(name, value)| (name, ModelParameter { string_value: value }))
            .collect(),
        scheduling_choice: match pick.described.ensemble.as_deref() {
            Some(definition) => Some(scheduling(definition)),
            None => joined.then(|| dynamic_batching(batching)),
        },
    })
}

/// Platform, backend and file, as Triton has them.
fn platform(pick: &Pick) -> (&'static str, &'static str, &'static str) {
    match pick.described.ensemble {
        Some(_) => (ENSEMBLE_PLATFORM, "", ""),
        None => (PLATFORM, BACKEND, MODEL_FILE),
    }
}

fn scheduling(definition: &Definition) -> SchedulingChoice {
    let step = |step: &Step| EnsembleStep {
        model_name: step.model.clone(),
        model_version: step.version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(-1),
        input_map: step.inputs.clone().into_iter().collect(),
        output_map: step.outputs.clone().into_iter().collect(),
    };
    SchedulingChoice::EnsembleScheduling(ModelEnsembling {
        step: definition.steps.iter().map(step).collect(),
    })
}

fn dynamic_batching(batching: &Batching) -> SchedulingChoice {
    SchedulingChoice::DynamicBatching(ModelDynamicBatching {
        preferred_batch_size: batching.preferred_rows.iter().copied().map(number).collect(),
        max_queue_delay_microseconds: u64::try_from(batching.delay.as_micros()).unwrap_or(u64::MAX),
    })
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn numbers(versions: &[&str]) -> Vec<i64> {
    versions.iter().filter_map(|version| version.parse().ok()).collect()
}

fn pick(route: &Route, version: Option<&str>) -> Result<Pick, Failure> {
    version.map_or_else(|| route.representative(), |version| route.pinned(version))
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
