//! What the launcher knows about its cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The launcher's settings for its cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Id of the installation that the objects belong to: others may use the same namespace.
    pub installation: String,
    /// Namespace of jobs that name none.
    pub namespace: String,
    /// Image that has the agent's static binary.
    pub agent_image: String,
    /// Path of that binary in the image.
    pub agent_path: String,
    /// Resource that `resources.gpus` counts where a job names none, e.g. `nvidia.com/gpu`.
    pub gpu_resource: String,
    /// Time after which an attempt's Job that has ended is deleted, seconds, where a job says nothing.
    pub ttl_s: u32,
    /// Placements that jobs choose by name.
    pub presets: Presets,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            installation: String::new(),
            namespace: "default".to_owned(),
            agent_image: String::new(),
            agent_path: "/slipway-agent".to_owned(),
            gpu_resource: "nvidia.com/gpu".to_owned(),
            ttl_s: 3_600,
            presets: Presets::default(),
        }
    }
}

/// Placements that an operator has named.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presets {
    /// For every job with GPUs.
    pub gpu: Placement,
    /// For jobs with a `gpu_type`, by its name, in addition to `gpu`.
    pub gpu_types: BTreeMap<String, Placement>,
    /// For jobs with `spot: true`.
    pub spot: Placement,
}

/// Where pods may run. Fields are those of Kubernetes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// `Toleration`s.
    pub tolerations: Vec<Value>,
    /// An `Affinity`, for jobs that bring none.
    pub affinity: Option<Value>,
}
