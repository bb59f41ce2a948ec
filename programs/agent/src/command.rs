//! The user's command: its environment, its process group, its end.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures::FutureExt as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::ExposeSecret as _;
use slipway_api::proto::launcher::Lease;
use slipway_domain::training::JobSpec;
use slipway_domain::training::attempt::{ATTEMPT_VARIABLE, JOB_ID_VARIABLE, is_inherited, is_of_container};
use slipway_job_processes::{end_strays, has_writers};
use slipway_runtime::clock;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::restore::Restored;
use crate::spool::Spool;
use crate::stop::{Stop, Stops};
use crate::workspace::Workspace;
use crate::{Config, exec, group, memory};

/// This very program, also where its file has been replaced since.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Where MLflow's client looks for its token.
const REGISTRY_TOKEN_VARIABLE: &str = "MLFLOW_TRACKING_TOKEN";

/// Variables that tell numerical libraries how many threads to use.
const THREAD_VARIABLES: [&str; 9] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "PYTHON_CPU_COUNT",
];

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) at: SystemTime,
    /// Memory that its processes used when they were ended for using too much, bytes; 0 where they were not.
    pub(crate) memory_exceeded_bytes: u64,
    /// Whether it ended of its own accord, and nothing that it left running was writing a checkpoint.
    pub(crate) by_itself: bool,
}

/// A command that has been started.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    group: Pid,
}

/// Starts the command in a process group of its own. Both of its outputs are one pipe, so that lines keep
/// their order.
///
/// # Errors
/// The system has no process or pipe left. A command that does not exist is found out when it has ended.
pub(crate) fn start(
    config: &Config,
    lease: &Lease,
    spec: &JobSpec,
    workspace: &Workspace,
    restored: Option<&Restored>,
) -> anyhow::Result<(Running, pipe::Receiver)> {
    let (reader, writer) = std::io::pipe().context("cannot create a pipe")?;
    let mut command = Command::new(OWN_PROGRAM);
    command
        .args(&config.own_arguments)
        .args(exec::arguments(
            &workspace.start_error(),
            &config.cores,
            directory(spec, workspace),
            &spec.command,
        ))
        .current_dir(&workspace.folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot share a pipe")?)
        .stderr(writer);
    set_environment(&mut command, config, lease, spec, workspace, restored);
    let child = command.spawn().context("cannot start a process")?;
    // With the command goes this process's copy of the pipe's other end: the log ends when the command's
    // processes do.
    drop(command);
    let id = child.id().and_then(|id| i32::try_from(id).ok()).context("the process has no id")?;
    let reader = pipe::Receiver::from_owned_fd(reader.into()).context("cannot read the pipe")?;
    Ok((Running { child, group: Pid::from_raw(id) }, reader))
}

/// The directory that the command runs in: of its image where it names one, else the work folder.
fn directory<'of>(spec: &'of JobSpec, workspace: &'of Workspace) -> &'of Path {
    let of_image = spec.kubernetes.as_ref().and_then(|kubernetes| kubernetes.working_dir.as_deref());
    of_image.map_or(&workspace.folder, Path::new)
}

fn set_environment(
    command: &mut Command,
    config: &Config,
    lease: &Lease,
    spec: &JobSpec,
    workspace: &Workspace,
    restored: Option<&Restored>,
) {
    let home = &workspace.folder;
    let inherits = |name: &str| match config.container {
        true => is_of_container(name),
        false => is_inherited(name, &config.job_environment),
    };
    let inherited = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(inherits));
    command.env_clear().envs(inherited);
    if let Some(account) = &config.run_as {
        // Those of root are none of its business.
        command.env_remove("TMPDIR").env_remove("SHELL").envs(account.environment(home));
    }
    if let Some(token) = &config.job_token {
        command.env(REGISTRY_TOKEN_VARIABLE, token.expose_secret());
    }
    if !lease.registry_url.is_empty() {
        command.env("MLFLOW_TRACKING_URI", &lease.registry_url);
    }
    command.env("MLFLOW_DISABLE_TELEMETRY", "true").env("PYTHONUNBUFFERED", "1");
    if let Some(traceparent) = slipway_telemetry::current_traceparent() {
        command.env("TRACEPARENT", traceparent);
    }
    set_threads(command, spec);
    command
        .envs(group::environment(config, spec))
        .env("MLFLOW_RUN_CONTEXT", run_context(config, spec, restored.map(|restored| restored.step)))
        .envs(&spec.env)
        .env(JOB_ID_VARIABLE, &config.job_id)
        .env("SLIPWAY_JOB_NAME", &spec.name)
        .env(ATTEMPT_VARIABLE, config.attempt.to_string());
    if !config.container {
        // After the job's own environment: it sees the GPUs that it asked for and no others.
        let gpus: Vec<String> = config.gpus.iter().map(u32::to_string).collect();
        command.env("CUDA_VISIBLE_DEVICES", gpus.join(","));
    }
    if spec.checkpoint.is_some() {
        command.env("SLIPWAY_CHECKPOINT_DIR", &workspace.checkpoints);
    }
    if let Some(restored) = restored {
        command.env("SLIPWAY_RESTORED_STEP", restored.step.to_string());
        if let Some(path) = &restored.path {
            command.env("SLIPWAY_RESTORED_PATH", path);
        }
    }
}

/// Tells libraries how many threads fit the job's share of the machine; the job's own environment may say
/// otherwise.
fn set_threads(command: &mut Command, spec: &JobSpec) {
    let threads = spec.resources.threads().to_string();
    command.envs(THREAD_VARIABLES.iter().map(|name| (name, &threads)));
}

/// Tags that MLflow's client gives to every run that the command starts, so that a model leads back to the
/// job.
fn run_context(config: &Config, spec: &JobSpec, restored: Option<u64>) -> String {
    let mut tags = serde_json::json!({
        "slipway.job_id": config.job_id,
        "slipway.job_name": spec.name,
        "slipway.attempt": config.attempt.to_string(),
    });
    if let Some(step) = restored {
        tags["slipway.restored_step"] = step.to_string().into();
    }
    tags.to_string()
}

impl Running {
    /// Its process group.
    pub(crate) fn group(&self) -> i32 {
        self.group.as_raw()
    }

    /// Waits for the end; on a stop the group gets SIGTERM, and SIGKILL after the grace period. What the
    /// command leaves running ends with it.
    ///
    /// # Errors
    /// The system cannot tell how it ended.
    pub(crate) async fn supervise(
        mut self,
        config: &Config,
        spec: &JobSpec,
        stops: &Stops,
        spool: &Spool,
        checkpoints: &Path,
    ) -> anyhow::Result<Ended> {
        let mut requests = stops.subscribe();
        let deadline = spec.timeout_s.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let default_grace = Duration::from_secs_f64(spec.grace_period_s);
        let (mut stopping, mut kill_at) = (false, None);
        requests.mark_changed();
        let limit_bytes = spec.resources.memory_bytes;
        let mut exceeded =
            std::pin::pin!(memory::exceeded(&config.job_id, config.attempt, limit_bytes).fuse());
        let (mut memory_exceeded_bytes, mut killed) = (0, false);
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status.context("cannot wait for the command")?,
                () = at(deadline), if !stopping => stops.request(Stop::TimedOut),
                () = at(kill_at) => {
                    spool.note("the grace period is over: SIGKILL").await;
                    self.signal(Signal::SIGKILL);
                    (kill_at, killed) = (None, true);
                }
                used_bytes = &mut exceeded => {
                    spool.note(&format!(
                        "out of memory: the command uses {used_bytes} bytes, more than the {limit_bytes} of \
                         resources.memory_bytes: SIGKILL"
                    )).await;
                    self.signal(Signal::SIGKILL);
                    (memory_exceeded_bytes, killed) = (used_bytes, true);
                    // What has left the group is ended with it.
                    self.end_strays(config).await;
                }
                _ = requests.changed() => {
                    let requested = *requests.borrow_and_update();
                    match requested {
                        Some(Stop::Fenced | Stop::PeerFailed) => self.signal(Signal::SIGKILL),
                        Some(stop) if !stopping => {
                            stopping = true;
                            let grace = match stop {
                                Stop::Cancelled { grace } | Stop::WithPeers { grace } => grace,
                                Stop::OutOfContact { grace } => grace.min(default_grace),
                                _ => default_grace,
                            };
                            spool.note(&explain(stop, spec, grace)).await;
                            self.signal(Signal::SIGTERM);
                            kill_at = Some(Instant::now() + grace);
                        }
                        _ => {}
                    }
                }
            }
        };
        let at = clock::now();
        let interrupted = has_writers(&config.job_id, config.attempt, checkpoints).await.unwrap_or(false);
        self.signal(Signal::SIGKILL);
        // Its end is reported, and another attempt may start anywhere, once nothing is left.
        while !self.end_strays(config).await && !stops.current().is_some_and(Stop::is_lost) {}
        let by_itself = !killed && !interrupted && status.code().is_some();
        Ok(Ended { status, at, memory_exceeded_bytes, by_itself })
    }

    /// Ends what the command has left running; `false` where something is left.
    async fn end_strays(&self, config: &Config) -> bool {
        match end_strays(&config.job_id, config.attempt).await {
            Ok(processes) => {
                if processes > 0 {
                    tracing::info!(processes, "ended processes left by the command");
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "processes left by the command do not end; retrying");
                false
            }
        }
    }

    /// To every process of the group; one that has ended is no error.
    fn signal(&self, signal: Signal) {
        if let Err(error) = killpg(self.group, signal)
            && error != nix::errno::Errno::ESRCH
        {
            tracing::warn!(%error, %signal, "process group of the command cannot be signalled");
        }
    }
}

fn explain(stop: Stop, spec: &JobSpec, grace: Duration) -> String {
    let why = match stop {
        Stop::Cancelled { .. } => "the job is cancelled or suspended".to_owned(),
        Stop::Preempted => "the agent was stopped".to_owned(),
        Stop::WithPeers { .. } => "another process of the job ends".to_owned(),
        Stop::PeerFailed => "another process of the job has failed".to_owned(),
        Stop::TimedOut => format!("the command ran longer than {} s", spec.timeout_s.unwrap_or_default()),
        Stop::OutOfContact { .. } => "no launcher has been reachable for too long".to_owned(),
        Stop::Fenced => "attempt replaced by another one".to_owned(),
    };
    format!("{why}: SIGTERM, and SIGKILL after {} s", grace.as_secs_f64())
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
