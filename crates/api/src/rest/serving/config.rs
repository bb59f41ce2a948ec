//! The model configuration extension.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An object that is always empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyObject {}

impl utoipa::PartialSchema for EmptyObject {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        // A map of nothing: `additionalProperties` with a type that no value of it needs.
        BTreeMap::<String, String>::schema()
    }
}

impl ToSchema for EmptyObject {}

/// Configuration of a model. Fields without a meaning for this server have Triton's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelConfig {
    /// Deployment.
    pub name: String,
    /// Platform.
    pub platform: String,
    /// Backend.
    pub backend: String,
    /// Always empty.
    pub runtime: String,
    /// Versions that are served.
    pub version_policy: VersionPolicy,
    /// Maximum number of rows of a run; 0 where requests do not share runs.
    pub max_batch_size: i32,
    /// Inputs.
    pub input: Vec<ModelConfigInput>,
    /// Outputs.
    pub output: Vec<ModelConfigOutput>,
    /// Always empty.
    pub batch_input: Vec<EmptyObject>,
    /// Always empty.
    pub batch_output: Vec<EmptyObject>,
    /// Instances.
    pub instance_group: Vec<InstanceGroup>,
    /// File of the model.
    pub default_model_filename: String,
    /// Always empty.
    pub cc_model_filenames: EmptyObject,
    /// Always empty.
    pub metric_tags: EmptyObject,
    /// Parameters.
    pub parameters: BTreeMap<String, ModelParameter>,
    /// Always empty.
    pub model_warmup: Vec<EmptyObject>,
    /// How responses follow requests.
    pub model_transaction_policy: TransactionPolicy,
    /// Present where requests share runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_batching: Option<DynamicBatching>,
    /// Present for ensembles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ensemble_scheduling: Option<EnsembleScheduling>,
}

/// Versions that are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionPolicy {
    /// Those that the traffic table names.
    pub specific: SpecificVersions,
}

/// Versions by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpecificVersions {
    /// Numbers.
    pub versions: Vec<i64>,
}

/// An input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelConfigInput {
    /// Name.
    pub name: String,
    /// `TYPE_FP32` and others.
    pub data_type: String,
    /// Always `FORMAT_NONE`.
    pub format: String,
    /// Dimensions; -1 for one that varies.
    pub dims: Vec<i64>,
    /// Always false.
    pub is_shape_tensor: bool,
    /// Always false.
    pub allow_ragged_batch: bool,
    /// Whether requests may leave it out.
    pub optional: bool,
}

/// An output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelConfigOutput {
    /// Name.
    pub name: String,
    /// `TYPE_FP32` and others.
    pub data_type: String,
    /// Dimensions; -1 for one that varies.
    pub dims: Vec<i64>,
    /// File with the labels of classes.
    pub label_filename: String,
    /// Always false.
    pub is_shape_tensor: bool,
}

/// Instances of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceGroup {
    /// Name.
    pub name: String,
    /// `KIND_CPU` or `KIND_GPU`.
    pub kind: String,
    /// Number of instances.
    pub count: i32,
    /// GPUs.
    pub gpus: Vec<i32>,
    /// Always empty.
    pub secondary_devices: Vec<EmptyObject>,
    /// Always empty.
    pub profile: Vec<String>,
    /// Always false.
    pub passive: bool,
    /// Always empty.
    pub host_policy: String,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelParameter {
    /// Value.
    pub string_value: String,
}

/// How responses follow requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionPolicy {
    /// Always false: each request has one response.
    pub decoupled: bool,
}

/// How requests share runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DynamicBatching {
    /// Preferred numbers of rows.
    pub preferred_batch_size: Vec<i32>,
    /// Time for which a run waits for further requests, in microseconds.
    pub max_queue_delay_microseconds: u64,
    /// Always false.
    pub preserve_ordering: bool,
    /// Always 0.
    pub priority_levels: u64,
    /// Always 0.
    pub default_priority_level: u64,
    /// Always empty.
    pub priority_queue_policy: EmptyObject,
}

/// Steps of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnsembleScheduling {
    /// The steps.
    pub step: Vec<EnsembleStep>,
}

/// A step of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnsembleStep {
    /// Model.
    pub model_name: String,
    /// Version; -1 for the one that the traffic table chooses.
    pub model_version: i64,
    /// Always empty.
    pub model_namespace: String,
    /// Input of the model → tensor of the ensemble.
    pub input_map: BTreeMap<String, String>,
    /// Output of the model → tensor of the ensemble.
    pub output_map: BTreeMap<String, String>,
}
