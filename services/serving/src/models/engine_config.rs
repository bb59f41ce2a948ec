//! How versions are run, where their own settings say nothing.

use std::time::Duration;

use clap::ValueEnum;
use slipway_inference::{Batching, Device, LoadOptions};

use crate::models::{ProbeOptions, limits};

const DEFAULT_PROBE_TIMEOUT_S: u64 = 120;
const MAX_PROBE_TIMEOUT_S: u64 = 24 * 60 * 60;

/// Settings of the engine. A version's `slipway-serving.json` goes before them.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Models")]
pub struct EngineConfig {
    /// Number of runs of one version that execute concurrently, on one session. 0 means one per core that
    /// the process may use, by its control group and CPU affinity.
    #[arg(long, env = "SLIPWAY_SERVING_INSTANCES", default_value_t = 0, value_name = "N")]
    pub instances: usize,
    /// Number of threads that one run of a model may use.
    #[arg(long, env = "SLIPWAY_SERVING_INTRA_THREADS", default_value_t = 1, value_name = "N")]
    pub intra_threads: usize,
    /// Maximum number of queued requests per version; further requests get 503.
    #[arg(long, env = "SLIPWAY_SERVING_QUEUE_LIMIT", default_value_t = 1024, value_name = "REQUESTS",
          value_parser = at_least_one("SLIPWAY_SERVING_QUEUE_LIMIT"))]
    pub queue_limit: usize,
    /// Maximum number of rows of a run that is joined from several requests; 1 disables joining. On a
    /// CPU, more than 8 cost memory and latency and gain nothing; a GPU benefits from more.
    #[arg(long, env = "SLIPWAY_SERVING_MAX_BATCH_ROWS", default_value_t = 8, value_name = "ROWS",
          value_parser = at_least_one("SLIPWAY_SERVING_MAX_BATCH_ROWS"))]
    pub max_batch_rows: usize,
    /// Maximum time that the oldest request waits for others to join it, in microseconds. Any value other
    /// than 0 lowers the throughput of nearly every model.
    #[arg(long, env = "SLIPWAY_SERVING_BATCH_DELAY_US", default_value_t = 0, value_name = "MICROSECONDS")]
    pub batch_delay_us: u64,
    /// Row counts to which batches are cut when more rows are queued, e.g. 8,16.
    #[arg(long, env = "SLIPWAY_SERVING_PREFERRED_BATCH_ROWS", value_delimiter = ',', value_name = "ROWS",
          value_parser = at_least_one("SLIPWAY_SERVING_PREFERRED_BATCH_ROWS"))]
    pub preferred_batch_rows: Vec<usize>,
    /// Audits one in this many joined runs: one request of it runs again alone, and if the answers differ,
    /// requests of the version are no longer joined. 0 disables audits.
    #[arg(long, env = "SLIPWAY_SERVING_JOIN_AUDIT_EVERY", default_value_t = 200, value_name = "RUNS")]
    pub join_audit_every: u64,
    /// Frees the memory of each run immediately, instead of keeping it for the next run and freeing it
    /// when the model is idle. Slower.
    #[arg(long, env = "SLIPWAY_SERVING_NO_ARENA")]
    pub no_arena: bool,
    /// Device that models run on. A GPU requires an ONNX Runtime that was built for it.
    #[arg(long, env = "SLIPWAY_SERVING_DEVICE", value_enum, default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,
    /// Runs a model on the CPU if its device cannot be used, instead of failing to load it.
    #[arg(long, env = "SLIPWAY_SERVING_DEVICE_FALLBACK")]
    pub device_fallback: bool,
}

/// How versions are loaded in a child process first.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Models")]
pub struct LoadProbeConfig {
    /// Whether a version is loaded in a child process before it is loaded by serving, so that a model that
    /// crashes ONNX Runtime costs that version only. The result is kept in the cache directory.
    #[arg(long, env = "SLIPWAY_SERVING_LOAD_PROBE", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub load_probe: bool,
    /// Maximum time for loading a version in a child process, in seconds.
    #[arg(long, env = "SLIPWAY_SERVING_LOAD_PROBE_TIMEOUT_S", default_value_t = DEFAULT_PROBE_TIMEOUT_S,
          value_name = "S",
          value_parser = clap::value_parser!(u64).range(1..=MAX_PROBE_TIMEOUT_S))]
    pub load_probe_timeout_s: u64,
    /// Maximum memory of the child process, in bytes, in addition to the size of the version's files
    /// [default: the available memory].
    #[arg(long, env = "SLIPWAY_SERVING_LOAD_PROBE_MEMORY_LIMIT_BYTES", value_name = "BYTES")]
    pub load_probe_memory_limit_bytes: Option<u64>,
}

impl LoadProbeConfig {
    /// As the loader takes them; `untested` is whether any version of ONNX Runtime is used.
    pub(crate) const fn options(&self, untested: bool) -> ProbeOptions {
        ProbeOptions {
            on: self.load_probe,
            timeout: Duration::from_secs(self.load_probe_timeout_s),
            memory_bytes: self.load_probe_memory_limit_bytes,
            untested,
        }
    }
}

/// A number of what there has to be one of: without a place to wait, or a row, nothing would be answered.
pub(crate) fn at_least_one(
    variable: &'static str,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("expected a whole number from 1 (this flag or {variable})"))
    }
}

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An NVIDIA GPU, by engines of TensorRT.
    Tensorrt,
}

impl EngineConfig {
    /// As the engine takes them.
    ///
    /// # Errors
    /// Names the flag that is out of its range.
    pub(crate) fn options(&self) -> anyhow::Result<LoadOptions> {
        let options = LoadOptions {
            instances: self.instances,
            intra_threads: self.intra_threads,
            queue_limit: self.queue_limit,
            batching: Batching {
                max_rows: self.max_batch_rows,
                delay: Duration::from_micros(self.batch_delay_us),
                preferred_rows: self.preferred_batch_rows.clone(),
                join: None,
                audit_every: self.join_audit_every,
            },
            empty: Vec::new(),
            arena: !self.no_arena,
            device: match self.device {
                DeviceName::Cpu => Device::Cpu,
                DeviceName::Cuda => Device::Cuda,
                DeviceName::Tensorrt => Device::TensorRt,
            },
            fallback: self.device_fallback,
        };
        limits::check(&options).map_err(|refused| {
            let (flag, variable) = (refused.field.replace('_', "-"), refused.field.to_uppercase());
            anyhow::anyhow!("--{flag} or SLIPWAY_SERVING_{variable} {}", refused.complaint)
        })?;
        Ok(options)
    }
}
