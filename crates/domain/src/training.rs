//! Training jobs: what may be submitted, when an attempt starts, is retried or given up, what it is given,
//! and which checkpoint is restored.

pub mod attempt;
mod backend;
mod capacity;
mod checkpoint;
mod distributed;
mod gathering;
mod job;
mod kubernetes;
mod lease;
mod naming;
mod resizing;
mod saving;
mod settle;
mod spec;
mod variable;

pub use backend::BackendKind;
pub use capacity::{Capacity, Node, Placed, Placement, place, place_on, refusal, total};
pub use checkpoint::{
    Fenced, MANIFEST_SCHEMA, MODE_BITS, Manifest, ManifestFile, ManifestFolder, ManifestLink, PartConflict,
    UploadStep, check_fence, check_file_path, choose_restore, combine, link_destination, released,
    upload_plan, upload_prefix, upload_step,
};
pub use distributed::{DEFAULT_GROUP_PORT, Group};
pub use gathering::{End, Gathered, Order, end, order};
pub use job::{
    AGENT_SPARE_MS, Action, EventKind, HEARTBEAT_INTERVAL_MS, Job, JobEvent, Loss, Observation, Outcome,
    Status, step,
};
pub use kubernetes::{
    EmptyDir, EnvRef, EnvSource, ImagePullPolicy, KubernetesSpec, OWN_LABEL_PREFIX, QUEUE_LABEL,
    TRAINING_JOB_KEY, Volume,
};
pub use lease::{
    DEFAULT_LEASE_MS, Lease, MAX_LEASE_MS, MIN_LEASE_MS, Owner, Relation, Report, SILENCE_MS,
    START_TIMEOUT_MS, Verdict, Watched, decide,
};
pub use naming::{EntryKind, Naming, classify};
pub use saving::SaveTime;
pub use settle::{Decision, Evidence, Moment, QUIET_BEFORE_END_MS, QUIET_WHILE_RUNNING_MS, Sighting, Watch};
pub use spec::{CheckpointSpec, JobSpec, Resources, Retries};
