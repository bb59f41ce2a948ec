//! Training jobs: what may be submitted, when an attempt starts, is retried or given up, and which checkpoint is restored.

mod checkpoint;
mod job;
mod spec;

pub use checkpoint::{
    Fenced, MANIFEST_SCHEMA, Manifest, ManifestFile, UploadStep, check_fence, choose_restore, released,
    upload_plan,
};
pub use job::{
    Action, EventKind, HEARTBEAT_INTERVAL_MS, Job, JobEvent, LEASE_MS, MAX_DISRUPTIONS, Observation, Outcome,
    START_TIMEOUT_MS, Status, step,
};
pub use spec::{CheckpointSpec, JobSpec, Resources, Retries};
