//! `TrainingJob`: a training job that is submitted by creating an object.
//!
//! The object is the job: its `spec` has the fields of the REST body, with those of the section `kubernetes`
//! beside them. Its name and namespace are those of the job, and its UID is the idempotency key, so an object
//! is one job whatever is cut off, and one that is deleted and created again is another.

mod definition;
mod spec;
mod status;
mod step;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_domain::training::TRAINING_JOB_KEY;

pub use definition::definition;
pub use spec::{from_manifest, resource_path};
pub use status::{Attempt, Condition, Phase, Status};
pub use step::{Step, Submitted, status, step};

/// Kind of the resource.
pub const KIND: &str = "TrainingJob";
/// Version of the resource.
pub const VERSION: &str = "v1alpha1";
/// Group and version.
pub const API_VERSION: &str = "slipway.dev/v1alpha1";
/// Plural of the kind, in paths.
pub const PLURAL: &str = "trainingjobs";
/// Keeps an object until its job has ended.
pub const FINALIZER: &str = "slipway.dev/cancel";

/// An object of the cluster.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct TrainingJob {
    /// Name, namespace, UID, generation.
    pub metadata: ObjectMeta,
    /// What the user asks for, as the API server has it.
    pub spec: Value,
    /// What the controller has said about it.
    pub status: Status,
}

impl Serialize for TrainingJob {
    /// As the API server takes it: with its kind.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Object<'object> {
            api_version: &'static str,
            kind: &'static str,
            metadata: &'object ObjectMeta,
            spec: &'object Value,
            status: &'object Status,
        }
        let Self { metadata, spec, status } = self;
        Object { api_version: API_VERSION, kind: KIND, metadata, spec, status }.serialize(serializer)
    }
}

impl k8s_openapi::Resource for TrainingJob {
    const API_VERSION: &'static str = API_VERSION;
    const GROUP: &'static str = crate::GROUP;
    const KIND: &'static str = KIND;
    const VERSION: &'static str = VERSION;
    const URL_PATH_SEGMENT: &'static str = PLURAL;
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl k8s_openapi::Metadata for TrainingJob {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl TrainingJob {
    /// Key under which its job is submitted. Postgres and the cluster agree on it even where the status is
    /// lost, and nobody else can name the job of another object.
    pub fn idempotency_key(&self) -> String {
        format!("{TRAINING_JOB_KEY}{}", self.metadata.uid.as_deref().unwrap_or_default())
    }

    /// Whether its job is to be suspended.
    pub fn is_suspended(&self) -> bool {
        self.spec["suspend"].as_bool().unwrap_or_default()
    }

    /// Whether it is being deleted.
    pub fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it stays until its job has ended.
    pub fn has_finalizer(&self) -> bool {
        self.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
    }
}
