//! Attempts as processes on the launcher's own machine.

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use slipway_domain::Invalid;
use slipway_domain::training::attempt::{WORK_DIR_VARIABLE, is_inherited_by_agents};
use slipway_domain::training::{BackendKind, JobSpec};
use slipway_job_processes as processes;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::{Backend, Error, Launch, Seen};

/// What is known about an agent that is no longer there.
const GONE: &str = "its agent ended without a report (killed, or see the end of its log)";

/// Starts agents as processes that outlive the launcher: each makes a session of its own, and a launcher that
/// was killed and started again finds it by the marks in its environment. Cheap to clone.
///
/// Agents begin as the launcher's user, and with an allow-list of its environment. An agent that is given
/// another account ([`RUN_AS_VARIABLE`](slipway_domain::training::attempt::RUN_AS_VARIABLE)) changes to it
/// before it does anything else. If unset, nothing separates a job from the launcher: both run as one user.
#[derive(Debug, Clone)]
pub(crate) struct LocalProcesses {
    command: Arc<[String]>,
    folders: AttemptFolders,
    /// The process namespace.
    node: Arc<str>,
    ended: Arc<Notify>,
    waiting: TaskTracker,
}

/// Folders of this machine in which attempts run and agents log, each with a folder per job.
#[derive(Debug, Clone)]
pub(crate) struct AttemptFolders {
    pub(crate) work: PathBuf,
    pub(crate) logs: PathBuf,
}

impl AttemptFolders {
    /// Folder for the attempt's files; made by the agent.
    fn work_of(&self, launch: &Launch) -> PathBuf {
        self.work.join(&launch.job_id).join(launch.attempt.to_string())
    }

    /// File for what the agent itself logs.
    fn agent_log_of(&self, launch: &Launch) -> PathBuf {
        self.logs.join(&launch.job_id).join(format!("{}.agent.log", launch.attempt))
    }
}

impl LocalProcesses {
    /// `command` starts an agent, e.g. `["/usr/bin/slipway-agent"]` or `["/usr/bin/slipway", "agent"]`.
    ///
    /// # Errors
    /// The command is empty, or `/proc` shows the processes of another namespace.
    pub(crate) fn new(command: Vec<String>, folders: AttemptFolders) -> Result<Self, Error> {
        if command.first().is_none_or(String::is_empty) {
            return Err(Error::Start {
                program: String::new(),
                reason: "the agent's command is empty".to_owned(),
            });
        }
        let node = processes::namespace()?.into();
        let (ended, waiting) = (Arc::new(Notify::new()), TaskTracker::new());
        Ok(Self { command: command.into(), folders, node, ended, waiting })
    }
}

#[tonic::async_trait]
impl Backend for LocalProcesses {
    fn kind(&self) -> BackendKind {
        BackendKind::Local
    }

    fn node(&self) -> &str {
        &self.node
    }

    fn check(&self, _: &JobSpec) -> Result<(), Invalid> {
        Ok(())
    }

    async fn start(&self, launch: &Launch) -> Result<(), Error> {
        let (job_id, attempt) = (&launch.job_id, launch.attempt);
        let left = self.end_leftovers(job_id, attempt.saturating_sub(1)).await?;
        if left > 0 {
            tracing::warn!(job_id, attempt, processes = left, "ended processes left by an earlier attempt");
        }
        let log = open_log(&self.folders.agent_log_of(launch)).map_err(Error::Log)?;
        let refuse = |error: std::io::Error| Error::Start {
            program: self.command[0].clone(),
            reason: error.to_string(),
        };
        let mut command = Command::new(&self.command[0]);
        let inherited = std::env::vars_os().filter(|(name, _)| {
            name.to_str().is_some_and(|name| is_inherited_by_agents(name, &launch.inherited))
        });
        command
            .args(&self.command[1..])
            .env_clear()
            .envs(inherited)
            .envs(launch.variables())
            .envs(launch.secret_variables().map(|(name, value)| (name, value.expose_secret())))
            .env(WORK_DIR_VARIABLE, self.folders.work_of(launch))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(refuse)?)
            .stderr(log);
        let mut child = command.spawn().map_err(refuse)?;
        let ended = Arc::clone(&self.ended);
        let (job_id, attempt) = (launch.job_id.clone(), launch.attempt);
        // Only reaps and tells; whether the attempt is over is the launcher's to decide. Nothing is lost
        // where it is dropped.
        self.waiting.spawn(async move {
            match child.wait().await {
                Ok(status) => tracing::debug!(%job_id, attempt, %status, "agent exited"),
                Err(error) => tracing::warn!(%job_id, attempt, %error, "cannot wait for an agent"),
            }
            ended.notify_one();
        });
        Ok(())
    }

    async fn report(&self, job_id: &str, attempt: u32) -> Result<Seen, Error> {
        let is_alive = processes::agent_is_alive(job_id, attempt).await?;
        Ok(if is_alive { Seen::Alive } else { Seen::lost(GONE) })
    }

    async fn end_leftovers(&self, job_id: &str, last: u32) -> Result<usize, Error> {
        Ok(processes::end_job(job_id, last).await?)
    }

    async fn agent_ended(&self) {
        self.ended.notified().await;
    }
}

fn open_log(path: &Path) -> std::io::Result<std::fs::File> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use slipway_domain::training::attempt::JOB_TOKEN_VARIABLE;

    use super::*;

    fn launch(job_id: &str) -> Launch {
        Launch {
            job_id: job_id.to_owned(),
            attempt: 1,
            spec: JobSpec::default(),
            excluded_nodes: Vec::new(),
            cores: Vec::new(),
            gpus: Vec::new(),
            token: "t".into(),
            inherited: Vec::new(),
            environment: BTreeMap::new(),
            secrets: BTreeMap::from([(JOB_TOKEN_VARIABLE.to_owned(), "s".into())]),
        }
    }

    fn folders(root: &Path) -> AttemptFolders {
        AttemptFolders { work: root.join("work"), logs: root.join("logs") }
    }

    fn backend(root: &Path, script: &str) -> LocalProcesses {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        LocalProcesses::new(command, folders(root)).unwrap()
    }

    #[tokio::test]
    async fn leftovers_end_also_in_sessions_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let job_id = format!("leftovers-{}", std::process::id());
        let backend = backend(folder.path(), "setsid sleep 300 & sleep 300");
        backend.start(&launch(&job_id)).await.unwrap();
        assert_eq!(backend.report(&job_id, 1).await.unwrap(), Seen::Alive);
        assert_eq!(backend.report(&job_id, 2).await.unwrap(), Seen::lost(GONE));
        assert!(backend.end_leftovers(&job_id, 1).await.unwrap() >= 1);
        assert_eq!(backend.report(&job_id, 1).await.unwrap(), Seen::lost(GONE));
        tokio::time::timeout(Duration::from_secs(5), backend.agent_ended()).await.unwrap();
        assert_eq!(backend.end_leftovers(&job_id, 1).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn secrets_come_by_environment_and_never_by_argument() {
        let folder = tempfile::tempdir().unwrap();
        let launch = launch(&format!("secrets-{}", std::process::id()));
        assert!(!format!("{launch:?}").contains("\"s\""));
        let script = "echo $SLIPWAY_ATTEMPT_TOKEN $SLIPWAY_JOB_TOKEN; tr '\\0' ' ' < /proc/$$/cmdline";
        let backend = backend(folder.path(), script);
        backend.start(&launch).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), backend.agent_ended()).await.unwrap();
        let log = std::fs::read_to_string(backend.folders.agent_log_of(&launch)).unwrap();
        assert!(log.starts_with("t s\n"), "{log}");
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let command = vec!["/nowhere/slipway-agent".to_owned()];
        let backend = LocalProcesses::new(command, folders(folder.path())).unwrap();
        let error = backend.start(&launch("none")).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/slipway-agent"), "{error}");
        assert!(LocalProcesses::new(Vec::new(), folders(folder.path())).is_err());
    }
}
