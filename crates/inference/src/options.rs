//! How a model is run.

use std::sync::OnceLock;
use std::time::Duration;

use crate::EmptyDimensions;

/// How a model is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Runs at the same time, on one shared session; 0: one a core that this process may use.
    pub instances: usize,
    /// Threads that one run may use. Above 1 pays only for models that are too slow for one core and have few
    /// callers.
    pub intra_threads: usize,
    /// Requests that may wait; one more is [`crate::Error::Overloaded`].
    pub queue_limit: usize,
    /// How waiting requests are joined.
    pub batching: Batching,
    /// Whether ONNX Runtime keeps freed memory for the next run. What a burst took goes back once the model
    /// is idle.
    pub arena: bool,
    /// Where it runs.
    pub device: Device,
    /// Whether it runs on the processor where its device is not there.
    pub fallback: bool,
    /// Dimensions that requests may make empty: those that a process survived ([`crate::Model::try_empty`]).
    pub empty: Vec<EmptyDimensions>,
}

/// How waiting requests are joined into one run. An idle instance takes what waits at once; while all are
/// busy, the next batch gathers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batching {
    /// Most rows of a joined run; 0 or 1: nothing is joined. A single request may have more.
    pub max_rows: usize,
    /// How long the oldest request waits for others. Zero suits nearly every model: a wait lowers throughput
    /// as well.
    pub delay: Duration,
    /// Row counts that the model is best at. Where more rows wait, a batch is cut to the largest of these
    /// that they fill.
    pub preferred_rows: Vec<usize>,
    /// Whether rows are independent of each other, where the version's settings say so; else the graph is
    /// analysed.
    pub join: Option<bool>,
    /// Of this many joined runs, one is audited: a request of it runs again alone, and the answers are
    /// compared. 0: none.
    pub audit_every: u64,
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// On the processor.
    #[default]
    Cpu,
    /// On an NVIDIA GPU.
    Cuda,
    /// On an NVIDIA GPU, by engines that TensorRT builds when the model is loaded.
    TensorRt,
}

impl Default for Batching {
    fn default() -> Self {
        Self { max_rows: 8, delay: Duration::ZERO, preferred_rows: Vec::new(), join: None, audit_every: 200 }
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            instances: 0,
            intra_threads: 1,
            queue_limit: 1024,
            batching: Batching::default(),
            arena: true,
            device: Device::Cpu,
            fallback: false,
            empty: Vec::new(),
        }
    }
}

impl LoadOptions {
    /// Runs at the same time.
    pub fn parallel_runs(&self) -> usize {
        match (self.instances, self.device) {
            (0, Device::Cpu) => cores(),
            // A GPU is kept busy by one caller, and the memory of a run is dear.
            (0, Device::Cuda | Device::TensorRt) => 1,
            (instances, _) => instances,
        }
    }
}

impl Device {
    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }

    /// The device of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Cpu, Self::Cuda, Self::TensorRt].into_iter().find(|device| device.name() == name)
    }
}

/// Cores that this process may use: the control group's quota and the affinity count.
pub fn cores() -> usize {
    // The standard library reads the files of the control group at each call.
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}
