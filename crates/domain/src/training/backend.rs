//! Where the attempts of a job run.

use serde::{Deserialize, Serialize};

use super::spec::JobSpec;

/// Where the attempts of a job run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// As processes on a launcher's own machine.
    Local,
    /// As Jobs of a Kubernetes cluster.
    Kubernetes,
}

impl BackendKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Local, Self::Kubernetes];

    /// The name that columns and settings carry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl JobSpec {
    /// Where its attempts run.
    pub const fn backend(&self) -> BackendKind {
        if self.kubernetes.is_some() { BackendKind::Kubernetes } else { BackendKind::Local }
    }
}
