//! Settings of the launcher.

use std::path::PathBuf;

use crate::backend::kubernetes::KubernetesConfig;
use secrecy::SecretString;
use slipway_access::CheckConfig;
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_domain::training::{DEFAULT_LEASE_MS, MAX_LEASE_MS, MIN_LEASE_MS};
use slipway_event_bus::{NatsConfig, StreamSettings};
use slipway_http_server::ListenConfig;
use slipway_service_kit::db::PostgresConfig;
use slipway_service_kit::registry::TokenFile;

const DEFAULT_MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// Settings of the launcher.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address to listen on [default port: 5010].
    #[command(flatten)]
    pub listen: ListenConfig,
    /// Jobs, attempts and checkpoints.
    #[command(flatten)]
    pub postgres: PostgresConfig,
    /// Events of jobs.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// Streams and buckets that do not exist yet.
    #[command(flatten)]
    pub streams: StreamSettings,
    /// Checkpoints and logs. Agents get presigned URLs, never these settings.
    #[command(flatten)]
    pub s3: S3Config,
    /// URL at which agents reach the artifact store; presigned URLs name it. [default: --s3-endpoint]
    #[arg(long, env = "SLIPWAY_AGENT_S3_ENDPOINT", value_name = "URL")]
    pub agent_s3_endpoint: Option<String>,
    /// How jobs run.
    #[command(flatten)]
    pub jobs: JobsConfig,
    /// Whether they run on Kubernetes, and how.
    #[command(flatten)]
    pub kubernetes: KubernetesConfig,
    /// Who may do what.
    #[command(flatten)]
    pub access: CheckConfig,
    /// Folder for the work folders of jobs, what their agents themselves log, and the id of this launcher.
    #[arg(long, env = "SLIPWAY_DATA_DIR", default_value = "slipway-data/launcher", value_name = "FOLDER")]
    pub data_dir: PathBuf,
    /// Maximum size of an attempt's log, in bytes; longer logs are truncated, with a mark.
    #[arg(long, env = "SLIPWAY_MAX_LOG_BYTES", default_value_t = DEFAULT_MAX_LOG_BYTES, value_name = "BYTES")]
    pub max_log_bytes: u64,
}

impl Config {
    /// The artifact store; URLs that it signs are for agents.
    pub(crate) fn artifacts(&self) -> ArtifactStore {
        let store = ArtifactStore::new(&self.s3);
        match &self.agent_s3_endpoint {
            Some(endpoint) => store.with_public_endpoint(&self.s3, endpoint),
            None => store,
        }
    }
}

/// How jobs run.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Jobs")]
pub struct JobsConfig {
    /// URL of the registry, for the jobs' MLFLOW_TRACKING_URI.
    #[arg(long, env = "SLIPWAY_REGISTRY_URL", default_value = "http://127.0.0.1:5000", value_name = "URL")]
    pub registry_url: String,
    /// One registry token for the MLFLOW_TRACKING_TOKEN of all jobs. If unset and --launcher-token is set,
    /// each attempt gets a token that is revoked when it ends.
    #[arg(long, env = "SLIPWAY_JOB_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub job_token: Option<SecretString>,
    /// Token with which the launcher obtains a token for each attempt of a job; the same value as at the
    /// registry. [default: none]
    #[arg(
        long,
        env = "SLIPWAY_LAUNCHER_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        conflicts_with = "service_token_file"
    )]
    pub launcher_token: Option<SecretString>,
    /// A file that has this token.
    #[command(flatten)]
    pub token_file: TokenFile,
    /// URLs at which agents reach launchers, separated by commas: that of a service in front of all of them,
    /// or this one's. Agents also learn the URLs of the other launchers. [default: the address that it
    /// listens on]
    #[arg(long, env = "SLIPWAY_LAUNCHER_URL", value_delimiter = ',', value_name = "URLS")]
    pub launcher_url: Vec<String>,
    /// Lease of an attempt, in milliseconds, which each heartbeat of its agent renews. An agent that reaches
    /// no launcher ends its command after two thirds of it; then another attempt starts. From 9000 to
    /// 3600000.
    #[arg(long, env = "SLIPWAY_LEASE_MS", default_value_t = DEFAULT_LEASE_MS, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(MIN_LEASE_MS..=MAX_LEASE_MS))]
    pub lease_ms: u64,
    /// Program of the agent [default: `slipway-agent` in the folder of this program, or this program if it is
    /// `slipway`].
    #[arg(long, env = "SLIPWAY_AGENT", value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Further arguments for the agent, separated by spaces, e.g. `--log=debug`.
    #[arg(
        long,
        env = "SLIPWAY_AGENT_ARGUMENTS",
        value_delimiter = ' ',
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    pub agent_arguments: Vec<String>,
    /// Maximum CPU cores of all running jobs on this node together. A job that requests more than any node
    /// has is rejected. [default: the machine's cores, at least 2]
    #[arg(long, env = "SLIPWAY_MAX_JOB_CPUS", value_name = "CORES")]
    pub max_job_cpus: Option<f64>,
    /// Maximum memory of all running jobs on this node together, in bytes. A job that requests more than any
    /// node has is rejected. [default: the memory of the machine or of its container]
    #[arg(long, env = "SLIPWAY_MAX_JOB_MEMORY_BYTES", value_name = "BYTES")]
    pub max_job_memory_bytes: Option<u64>,
    /// Numbers of the GPUs for jobs, separated by commas, as in CUDA_VISIBLE_DEVICES. [default: the NVIDIA
    /// GPUs of the machine]
    #[arg(long, env = "SLIPWAY_JOB_GPUS", value_delimiter = ',', value_name = "GPUS")]
    pub job_gpus: Option<Vec<u32>>,
    /// Account that jobs run as, if the launcher runs as root; not `nobody`. [default: the launcher's own
    /// account]
    #[arg(long, env = "SLIPWAY_JOB_USER", value_name = "NAME")]
    pub job_user: Option<String>,
    /// Folder for the jobs' work folders. [default: `work` in the data folder; /var/lib/slipway/jobs/<id> if
    /// --job-user cannot reach it]
    #[arg(long, env = "SLIPWAY_JOBS_DIR", value_name = "FOLDER")]
    pub jobs_dir: Option<PathBuf>,
    /// Further variables that jobs inherit from the launcher's environment, separated by commas; `NAME_*`
    /// matches by prefix. Jobs always inherit PATH, the locale, proxies, and paths of Python and CUDA; never
    /// variables that begin with SLIPWAY_. [default: none]
    #[arg(long, env = "SLIPWAY_JOB_ENVIRONMENT", value_delimiter = ',', value_name = "NAMES")]
    pub job_environment: Vec<String>,
    /// Whether to keep the work folders of successful attempts too.
    #[arg(long, env = "SLIPWAY_KEEP_WORK_DIRS", default_value_t = false, action = clap::ArgAction::Set,
          value_name = "BOOL")]
    pub keep_work_dirs: bool,
}
