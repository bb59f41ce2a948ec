//! Serving: the Open Inference Protocol v2 with Triton's extensions, KServe's v1 protocol, and Slipway's own
//! routes.
//!
//! Predictions are read and written by the service's own codec; the types here describe them, and are what
//! clients send.

mod config;
mod deployment;
mod infer;
mod label;
mod model;
mod repository;
mod settings;
mod statistics;

pub use self::config::{
    DynamicBatching, EmptyObject, EnsembleScheduling, EnsembleStep, InstanceGroup, ModelConfig,
    ModelConfigInput, ModelConfigOutput, ModelParameter, SpecificVersions, TransactionPolicy, VersionPolicy,
};
pub use self::deployment::{ServedDeployment, ServedDeployments, ServedState, ServedVersion};
pub use self::infer::{
    InferError, InferRequest, InferRequestedOutput, InferResponse, InferTensor, ParameterValue,
    PredictRequest, PredictResponse, RequestTensor, TensorValue,
};
pub use self::label::{AcceptedLabels, Label, Labels};
pub use self::model::{
    Alive, ModelList, ModelMetadata, ModelReady, ServerLive, ServerMetadata, ServerReady, TensorSpec,
};
pub use self::repository::{IndexRequest, LoadRequest, RepositoryModel};
pub use self::settings::{LogSettings, SettingValue, SettingsUpdate, TraceSettings};
pub use self::statistics::{
    BatchStatistics, DurationStatistics, InferenceStatistics, ModelStatistics, StatisticsResponse,
};
