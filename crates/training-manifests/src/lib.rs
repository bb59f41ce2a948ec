//! Manifests of training jobs that people have, as jobs of Slipway: Kubernetes' `Job`, and Kubeflow's
//! `PyTorchJob`, `TFJob` and `TrainJob`.
//!
//! Fields that Slipway does not support are listed by path in [`Converted::dropped`]. A field is an error
//! instead if the job would behave differently without it.

mod container;
mod fields;
mod kinds;
mod kubeflow;
mod pod;
mod policy;
pub mod quantity;
mod volumes;

use serde_json::Value;
use slipway_domain::Invalid;
use slipway_domain::training::{JobSpec, KubernetesSpec};

pub use kinds::is_manifest;

/// What a manifest is as a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Converted {
    /// The job.
    pub job: JobSpec,
    /// What it asks of Kubernetes.
    pub kubernetes: KubernetesSpec,
    /// Paths of fields without a counterpart, with a reason where there is more to say.
    pub dropped: Vec<String>,
}

/// Converts a manifest.
///
/// # Errors
/// It is of another kind, a field does not have the type that its kind gives it, or the job would not mean
/// the same; names the field.
pub fn convert(manifest: &Value) -> Result<Converted, Invalid> {
    kinds::convert(manifest)
}
