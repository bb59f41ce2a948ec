//! The number of pods.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A number of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    /// Minimum [default: 1].
    #[serde(default = "one")]
    pub min: u32,
    /// Maximum [default: the minimum].
    #[serde(default)]
    pub max: Option<u32>,
}

const fn one() -> u32 {
    1
}

impl Default for Replicas {
    fn default() -> Self {
        Self { min: one(), max: None }
    }
}

impl Replicas {
    /// The maximum.
    pub fn most(&self) -> u32 {
        self.max.unwrap_or(self.min).max(self.min)
    }
}

/// When pods are added and removed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scaling {
    /// What is measured [default: cpu].
    pub metric: Metric,
    /// What it is to be for each pod on average: percent of what is requested for `cpu` and `memory`, percent
    /// of the time for `gpu` [default: 80], otherwise requests, requests per second or milliseconds.
    pub target: Option<u32>,
    /// A `HorizontalPodAutoscalerBehavior` of Kubernetes: how fast pods are added and removed.
    #[schema(value_type = Option<Object>)]
    pub behavior: Option<Value>,
    /// Time without a request after which no pod is left, in seconds. From then on, the serving pool of the
    /// namespace answers, until requests have come for some seconds and pods are ready again. [default:
    /// never]
    pub scale_to_zero_after_s: Option<u32>,
}

/// A metric of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// Use of the requested CPU.
    #[default]
    Cpu,
    /// Use of the requested memory.
    Memory,
    /// Requests that are being answered.
    Concurrency,
    /// Requests per second.
    RequestsPerSecond,
    /// Mean time from a request to its answer, in milliseconds.
    Latency,
    /// Mean time that a request waits for a run, in milliseconds.
    Queue,
    /// Share of the time in which the GPUs of a pod compute, in percent.
    Gpu,
}

impl Metric {
    /// Whether it has a target of its own accord.
    pub const fn has_default_target(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory | Self::Gpu)
    }
}
