//! What the nodes of the launchers have for jobs.

use serde::{Deserialize, Serialize};
use slipway_domain::training;
use utoipa::ToSchema;

use super::spec::Resources;
use crate::rest::convert::{mirror, shown};

/// What nodes have for jobs.
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
    /// Numbers of the CPU cores of the node whose launcher answers.
    pub cores: Vec<u32>,
    /// Numbers of the GPUs of the node whose launcher answers.
    pub gpus: Vec<u32>,
    /// Nodes with a running launcher.
    #[serde(default)]
    pub nodes: Vec<NodeCapacity>,
}

/// Capacity of a node, and how much of it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeCapacity {
    /// Host name, start of the machine, and process namespace.
    pub name: String,
    /// Resources that its jobs may use together.
    pub capacity: MachineCapacity,
    /// Resources that its running jobs reserve.
    pub used: Resources,
}

shown!(NodeCapacity = training::Node { name, capacity, used });
