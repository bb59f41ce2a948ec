//! `TrainingJob`: a training job that is submitted by creating an object.
//!
//! The object is the job: its `spec` has the fields of the REST body, with those of the section `kubernetes`
//! beside them. Its name and namespace are those of the job, and its UID is the idempotency key, so an object
//! is one job whatever is cut off, and one that is deleted and created again is another.

mod definition;
mod spec;
mod status;
mod step;

use serde_json::Value;
use slipway_domain::training::TRAINING_JOB_KEY;

pub use definition::definition;
pub use spec::{from_manifest, resource_path};
pub use status::{Attempt, Phase, Status};
pub use step::{Step, Submitted, status, step};

use crate::{Kind, Object};

/// The kind `TrainingJob`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrainingJobKind;

impl Kind for TrainingJobKind {
    const KIND: &'static str = "TrainingJob";
    const PLURAL: &'static str = "trainingjobs";
    const FINALIZER: &'static str = "slipway.dev/cancel";
    type Status = Status;
}

/// A training job as an object of the cluster.
pub type TrainingJob = Object<TrainingJobKind>;

impl TrainingJob {
    /// Key under which its job is submitted. Postgres and the cluster agree on it even where the status is
    /// lost, and nobody else can name the job of another object.
    pub fn idempotency_key(&self) -> String {
        format!("{TRAINING_JOB_KEY}{}", self.uid())
    }

    /// Whether its job is to be suspended.
    pub fn is_suspended(&self) -> bool {
        self.spec["suspend"].as_bool().unwrap_or_default()
    }
}

/// Whether a manifest is one of this kind.
fn is_own(manifest: &Value) -> bool {
    manifest["kind"] == TrainingJobKind::KIND && manifest["apiVersion"] == crate::API_VERSION
}
