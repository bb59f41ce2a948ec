//! The machine of the launcher.

use serde::{Deserialize, Serialize};
use slipway_domain::training;
use utoipa::ToSchema;

use super::spec::Resources;
use crate::rest::convert::mirror;

/// What the machine has for jobs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MachineCapacity {
    /// CPU cores.
    pub cpus: f64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// GPUs.
    pub gpus: u32,
}

mirror!(MachineCapacity = training::Capacity { cpus, memory_bytes, gpus });

/// Capacity for jobs, and how much of it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CapacityReport {
    /// Resources that jobs may use together.
    pub capacity: MachineCapacity,
    /// Resources that running jobs reserve.
    pub used: Resources,
    /// Number of running jobs.
    pub running: usize,
    /// Number of jobs that wait, at most 1000.
    pub waiting: usize,
    /// Numbers of the CPU cores.
    pub cores: Vec<u32>,
    /// Numbers of the GPUs.
    pub gpus: Vec<u32>,
}
