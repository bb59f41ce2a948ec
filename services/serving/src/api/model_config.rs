//! The model configuration extension: what is served, as Triton's clients read it. One truth for REST and
//! gRPC.

use std::collections::HashMap;

use slipway_api::inference::model_config::SchedulingChoice;
use slipway_api::inference::model_ensembling::Step as EnsembleStep;
use slipway_api::inference::model_instance_group::Kind as InstanceKind;
use slipway_api::inference::model_version_policy::{PolicyChoice, Specific};
use slipway_api::inference::{
    DataType, ModelConfig, ModelDynamicBatching, ModelEnsembling, ModelInput, ModelInstanceGroup,
    ModelOutput, ModelParameter, ModelTransactionPolicy, ModelVersionPolicy,
};
use slipway_domain::ensemble::{Definition, Step};
use slipway_inference::{Batching, Datatype, Device, Joining, TensorSpec};

use super::describe::pick;
use super::platform::Platform;
use crate::failure::Failure;
use crate::models::routing::{Pick, Routing};
use crate::models::{Described, Memory};

/// Parts of one model that run at the same time; a session runs them one after another.
const INTER_THREADS: usize = 1;

/// A version as it is now: joining may have been stopped, and memory was measured when it was last loaded.
struct Current {
    pick: Pick,
    joining: Joining,
    memory: Memory,
}

/// Configuration as Triton's clients read it: where `max_batch_size` is above 0, the dimensions are without
/// the batch.
///
/// # Errors
/// Unknown, or not ready.
pub(crate) fn config(routing: &Routing, name: &str, version: Option<&str>) -> Result<ModelConfig, Failure> {
    let route = routing.get(name)?;
    let current = Current::of(pick(&route, version)?);
    let described = &*current.pick.described;
    let platform = Platform::of(described);
    let versions = route.ready_versions().iter().filter_map(|version| version.parse().ok()).collect();
    let joined = current.joining.is_on();
    let max_batch_size = described.max_batch_size(joined);
    Ok(ModelConfig {
        name: name.to_owned(),
        platform: platform.name.to_owned(),
        backend: platform.backend.to_owned(),
        max_batch_size: number(max_batch_size),
        default_model_filename: platform.file.to_owned(),
        input: inputs(described, max_batch_size > 0),
        output: outputs(described, max_batch_size > 0),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(PolicyChoice::Specific(Specific { versions })),
        }),
        instance_group: vec![current.instances(name)],
        parameters: current.parameters(),
        scheduling_choice: match described.ensemble.as_deref() {
            Some(definition) => Some(scheduling(definition)),
            None => joined.then(|| dynamic_batching(&described.options.batching)),
        },
    })
}

impl Current {
    fn of(pick: Pick) -> Self {
        let memory = pick.resident.described().map(|described| described.memory).unwrap_or_default();
        let joining = pick.resident.served();
        let joining = joining.map_or_else(|| pick.described.joining.clone(), |served| served.joining());
        Self { pick, joining, memory }
    }

    fn instances(&self, name: &str) -> ModelInstanceGroup {
        let kind = match self.pick.described.device {
            Device::Cpu => InstanceKind::Cpu,
            Device::Cuda | Device::TensorRt => InstanceKind::Gpu,
        };
        let gpu = self.memory.device.and_then(|device| i32::try_from(device.index).ok());
        ModelInstanceGroup {
            name: format!("{name}_0"),
            count: number(self.pick.described.options.parallel_runs()),
            gpus: gpu.into_iter().collect(),
            kind: kind.into(),
        }
    }

    fn parameters(&self) -> HashMap<String, ModelParameter> {
        let Described { options, beside, signature, .. } = &*self.pick.described;
        let joined = self.joining.is_on();
        let batching = &options.batching;
        let numbers = [
            ("intra_op_thread_count", options.intra_threads),
            ("inter_op_thread_count", INTER_THREADS),
            ("max_queue_size", options.queue_limit),
            ("max_joined_rows", if joined { batching.max_rows } else { 1 }),
            (
                "max_queue_delay_microseconds",
                usize::try_from(batching.delay.as_micros()).unwrap_or(usize::MAX),
            ),
            ("memory_bytes", usize::try_from(self.memory.bytes).unwrap_or(usize::MAX)),
        ];
        let of_device = self
            .memory
            .device
            .map(|device| ("device_memory_bytes", usize::try_from(device.bytes).unwrap_or(usize::MAX)));
        let labelled = signature.outputs.iter().filter(|spec| !beside.labels.of(&spec.name).is_empty());
        let classes = labelled.map(|spec| {
            let names = serde_json::Value::from(beside.labels.of(&spec.name));
            (format!("classes.{}", spec.name), names.to_string())
        });
        numbers
            .into_iter()
            .chain(of_device)
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .chain([("requests_joined".to_owned(), joined.to_string())])
            .chain([("requests_joined_reason".to_owned(), self.joining.to_string())])
            .chain(classes)
            .map(|(name, value)| (name, ModelParameter { string_value: value }))
            .collect()
    }
}

fn inputs(described: &Described, batched: bool) -> Vec<ModelInput> {
    let formats = &described.beside.formats;
    let input = |spec: &TensorSpec, optional: bool| ModelInput {
        name: spec.name.clone(),
        data_type: data_type(spec.datatype).into(),
        format: formats.get(&spec.name).copied().unwrap_or_default(),
        dims: if optional { spec.shape.clone() } else { dims(spec, batched) },
        optional,
    };
    let needed = described.signature.inputs.iter().map(|spec| input(spec, false));
    needed.chain(described.signature.optional.iter().map(|spec| input(spec, true))).collect()
}

fn outputs(described: &Described, batched: bool) -> Vec<ModelOutput> {
    let output = |spec: &TensorSpec| ModelOutput {
        name: spec.name.clone(),
        data_type: data_type(spec.datatype).into(),
        dims: dims(spec, batched),
        label_filename: described.beside.labels.file(&spec.name).to_owned(),
    };
    described.signature.outputs.iter().map(output).collect()
}

/// The shape without the batch.
fn dims(spec: &TensorSpec, batched: bool) -> Vec<i64> {
    spec.shape.iter().skip(usize::from(batched)).copied().collect()
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
