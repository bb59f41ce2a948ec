//! The agent in front of one attempt of a training job: it restores the last checkpoint, starts the command,
//! passes its log and its checkpoints on, stops it when asked, and reports how it ended. The user's command
//! needs nothing of ours.
//!
//! Everything that the agent knows about the attempt comes with its lease, which any launcher renews. Where
//! none answers, the agent goes on by itself for most of its lease, then stops the command and ends.

mod account;
mod addresses;
mod attempt;
mod checkpoint;
mod command;
mod exec;
mod faults;
mod group;
mod guard;
mod heartbeat;
mod install;
mod launcher;
mod memory;
mod objects;
mod programs;
mod restore;
mod spool;
mod stop;
mod warnings;
mod workspace;

pub use account::Account;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use secrecy::SecretString;
use slipway_domain::training::attempt as contract;
use slipway_telemetry::TelemetryConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Threads besides the main one: uploads are hashed there.
const WORKER_THREADS: usize = 2;
const USAGE_EXIT_CODE: u8 = 64;

/// Which attempt this is, and where it runs. A launch backend sets all of it in the environment.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Attempt")]
pub struct Config {
    /// Job id.
    #[arg(long, env = contract::JOB_ID_VARIABLE)]
    pub job_id: String,
    /// Attempt number, from 1.
    #[arg(long, env = contract::ATTEMPT_VARIABLE)]
    pub attempt: u32,
    /// The attempt's token; from the environment only, so that no process list shows it.
    #[arg(long, env = contract::TOKEN_VARIABLE, hide = true, hide_env_values = true)]
    pub attempt_token: SecretString,
    /// Folder that the command runs in. It is emptied first, and removed after a success.
    #[arg(long, env = contract::WORK_DIR_VARIABLE)]
    pub work_dir: PathBuf,
    /// Keep the folder also after a success.
    #[arg(long, env = contract::KEEP_WORK_DIR_VARIABLE, default_value_t = false,
          action = clap::ArgAction::Set)]
    pub keep_work_dir: bool,
    /// Launchers, separated by commas, e.g. `http://127.0.0.1:5010`. The agent learns of others from them.
    #[arg(long, env = contract::LAUNCHER_URL_VARIABLE, default_value = "http://127.0.0.1:5010",
          value_delimiter = ',', value_name = "URLS")]
    pub launcher_url: Vec<String>,
    /// Without effect: how long the agent goes on without a launcher follows from its lease.
    #[arg(long, env = "SLIPWAY_LAUNCHER_PATIENCE_MS", hide = true, value_name = "MS")]
    pub launcher_patience_ms: Option<u64>,
    /// CPU cores that the command is bound to, by their numbers. [default: all]
    #[arg(long, env = contract::CORES_VARIABLE, value_delimiter = ',', value_name = "CORES")]
    pub cores: Vec<usize>,
    /// GPUs that the command sees, by their numbers. [default: none]
    #[arg(long, env = contract::GPUS_VARIABLE, value_delimiter = ',', value_name = "GPUS")]
    pub gpus: Vec<u32>,
    /// Whether the environment and the GPUs are those of a container that was made for the command.
    #[arg(long, env = contract::CONTAINER_VARIABLE, default_value_t = false, action = clap::ArgAction::Set,
          value_name = "BOOL")]
    pub container: bool,
    /// Number of the process in a distributed job, from 0. [default: the job has one process]
    #[arg(long, env = contract::PROCESS_VARIABLE, value_name = "NUMBER")]
    pub process: Option<u32>,
    /// Host names of the processes of a distributed job, with `{process}` for the number.
    #[arg(long, env = contract::GROUP_HOST_VARIABLE, value_name = "PATTERN")]
    pub group_host: Option<String>,
    /// Kubernetes node that the agent runs on. [default: none]
    #[arg(long, env = contract::NODE_VARIABLE, value_name = "NAME")]
    pub node: Option<String>,
    /// Time between SIGTERM and SIGKILL of the agent, in seconds. [default: unlimited]
    #[arg(long, env = contract::TERMINATION_VARIABLE, value_name = "SECONDS")]
    pub termination_grace_period_s: Option<u64>,
    /// Account that the agent and its command run as, as UID:GID. [default: the account that starts it]
    #[arg(long, env = contract::RUN_AS_VARIABLE, value_name = "UID:GID")]
    pub run_as: Option<Account>,
    /// Further variables that the command inherits, separated by commas; `NAME_*` for all that begin so.
    #[arg(long, env = contract::INHERITED_VARIABLE, value_delimiter = ',', value_name = "NAMES")]
    pub job_environment: Vec<String>,
    /// The token that the command shows the registry, as MLFLOW_TRACKING_TOKEN; from the environment only.
    #[arg(long, env = contract::JOB_TOKEN_VARIABLE, hide = true, hide_env_values = true)]
    pub job_token: Option<SecretString>,
    /// Arguments that make this program an agent, for when it starts itself again in front of the command.
    #[arg(skip)]
    pub own_arguments: Vec<String>,
}

#[derive(Debug, clap::Parser)]
#[command(
    name = "slipway-agent",
    version,
    about = "Runs one attempt of a training job; started by slipway-launcher."
)]
struct Arguments {
    #[command(flatten)]
    telemetry: TelemetryConfig,
    #[command(flatten)]
    config: Config,
}

/// The whole program. `own_arguments` are the arguments after the program's name that led here: none for
/// `slipway-agent`, `["agent"]` for `slipway agent`.
pub fn main(own_arguments: &[&str]) -> ExitCode {
    let mut rest = std::env::args_os().skip(1 + own_arguments.len()).peekable();
    if rest.peek().is_some_and(|first| first == exec::ARGUMENT) {
        return exec::run(rest.skip(1));
    }
    if rest.peek().is_some_and(|first| first == guard::ARGUMENT) {
        return guard::run(rest.skip(1));
    }
    if rest.peek().is_some_and(|first| first == install::ARGUMENT) {
        return install::run(rest.skip(1));
    }
    let mut arguments = Arguments::parse_from(std::iter::once(OsString::from("slipway-agent")).chain(rest));
    arguments.config.own_arguments = own_arguments.iter().map(|&argument| argument.to_owned()).collect();
    // Before there are threads, and before anything is written.
    if let Some(account) = arguments.config.run_as
        && let Err(error) = account.become_it(&arguments.config.work_dir)
    {
        eprintln!("slipway-agent: {error:#}");
        return ExitCode::from(USAGE_EXIT_CODE);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("slipway-agent: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The attempt runs on this very thread: the kernel ends the command with the thread that started it.
    runtime.block_on(async {
        let guard = match slipway_telemetry::init("slipway-agent", &arguments.telemetry) {
            Ok(guard) => guard,
            Err(error) => {
                eprintln!("slipway-agent: {error:#}");
                return ExitCode::from(USAGE_EXIT_CODE);
            }
        };
        slipway_runtime::install_tls_provider();
        let outcome = with_signals(arguments.config).await;
        guard.flush();
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "attempt given up");
                ExitCode::FAILURE
            }
        }
    })
}

/// Runs the attempt until its command has ended and the launcher knows, or until the attempt is lost.
/// `shutdown` asks for an early end: the command gets SIGTERM and its grace period, and its last checkpoint
/// is stored.
///
/// # Errors
/// The attempt cannot go on for reasons that are not its command's; the launcher finds out by the missing
/// heartbeat.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    attempt::run(config, shutdown).await
}

async fn with_signals(config: Config) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let mut attempt = std::pin::pin!(run(config, shutdown.clone()));
    loop {
        tokio::select! {
            outcome = &mut attempt => return outcome,
            _ = terminate.recv() => shutdown.cancel(),
            _ = interrupt.recv() => shutdown.cancel(),
        }
    }
}
