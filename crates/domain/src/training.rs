//! Training jobs: what may be submitted, when an attempt starts, is retried or given up, what it is given,
//! and which checkpoint is restored.

pub mod attempt;
mod capacity;
mod checkpoint;
mod job;
mod naming;
mod settle;
mod spec;

pub use capacity::{Capacity, Placement, place, total};
pub use checkpoint::{
    Fenced, MANIFEST_SCHEMA, MODE_BITS, Manifest, ManifestFile, ManifestFolder, ManifestLink, UploadStep,
    check_fence, choose_restore, link_destination, released, upload_plan,
};
pub use job::{
    Action, EventKind, HEARTBEAT_INTERVAL_MS, Job, JobEvent, LEASE_MS, MAX_DISRUPTIONS, Observation, Outcome,
    START_TIMEOUT_MS, Status, step,
};
pub use naming::{EntryKind, Naming, classify};
pub use settle::{Decision, Evidence, Moment, QUIET_BEFORE_END_MS, QUIET_WHILE_RUNNING_MS, Sighting, Watch};
pub use spec::{CheckpointSpec, JobSpec, Resources, Retries};
