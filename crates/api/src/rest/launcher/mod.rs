//! The launcher: jobs, their logs and checkpoints.

mod capacity;
mod checkpoint;
mod job;
mod kubernetes;
mod logs;
mod query;
mod spec;

pub use self::capacity::{CapacityReport, MachineCapacity, NodeCapacity};
pub use self::checkpoint::{Checkpoint, CheckpointDetails, CheckpointFile, Checkpoints};
pub use self::job::{Attempt, Job, JobStatus, Jobs, Process, Waiting};
pub use self::kubernetes::{
    EmptyDir, EnvRef, EnvSource, ImagePullPolicy, KUBERNETES_OBJECTS, KubernetesSpec, Volume,
};
pub use self::logs::{LogChunk, LogEnd};
pub use self::query::{JobsQuery, LogsQuery};
pub use self::spec::{CheckpointSpec, JobResumption, JobSpec, Resources, Retries};
