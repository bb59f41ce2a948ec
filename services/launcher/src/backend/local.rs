//! Attempts as processes on the launcher's own machine.

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::environment::is_inherited_by_agents;
use crate::process::{self, Marked};
use crate::{
    ATTEMPT_VARIABLE, CORES_VARIABLE, Error, GPUS_VARIABLE, INHERITED_VARIABLE, JOB_ID_VARIABLE, Launch,
    TOKEN_VARIABLE, WORK_DIR_VARIABLE,
};

/// Left-over processes must be gone by then.
const LEFTOVERS_TIMEOUT_MS: u64 = 5_000;
const LEFTOVERS_POLL_MS: u64 = 20;
/// A process shows no environment for the moment in which it becomes another program, so one look proves nothing.
const EMPTY_SCANS: u32 = 2;

/// Starts agents as processes that outlive the launcher: each makes a session of its own, and a launcher that was killed and
/// started again finds it by the marks in its environment. Cheap to clone.
///
/// Agents begin as the launcher's user, and with an allow-list of its environment. An agent that has [`crate::RUN_AS_VARIABLE`] becomes that
/// user before it does anything else. Without it there is no wall between a job and the launcher: both run as one user.
#[derive(Debug, Clone)]
pub struct LocalProcesses {
    command: Arc<[String]>,
    ended: Arc<Notify>,
    waiting: TaskTracker,
}

impl LocalProcesses {
    /// `command` starts an agent, e.g. `["/usr/bin/slipway-agent"]` or `["/usr/bin/slipway", "agent"]`.
    ///
    /// # Errors
    /// The command is empty.
    pub fn new(command: Vec<String>) -> Result<Self, Error> {
        if command.first().is_none_or(String::is_empty) {
            return Err(Error::Start {
                program: String::new(),
                reason: "the agent's command is empty".to_owned(),
            });
        }
        Ok(Self { command: command.into(), ended: Arc::new(Notify::new()), waiting: TaskTracker::new() })
    }

    pub(crate) async fn start(&self, launch: &Launch) -> Result<(), Error> {
        let log = open_log(&launch.agent_log)
            .map_err(|source| Error::Io { action: "cannot open the agent's log", source })?;
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
            .envs(&launch.environment)
            .envs(launch.secrets.iter().map(|(name, value)| (name, value.expose_secret())))
            .env(JOB_ID_VARIABLE, &launch.job_id)
            .env(ATTEMPT_VARIABLE, launch.attempt.to_string())
            .env(TOKEN_VARIABLE, launch.token.expose_secret())
            .env(WORK_DIR_VARIABLE, &launch.work_dir)
            .env(INHERITED_VARIABLE, launch.inherited.join(","))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(refuse)?)
            .stderr(log);
        for (variable, numbers) in [(CORES_VARIABLE, &launch.cores), (GPUS_VARIABLE, &launch.gpus)] {
            if !numbers.is_empty() {
                let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                command.env(variable, numbers.join(","));
            }
        }
        let mut child = command.spawn().map_err(refuse)?;
        let ended = Arc::clone(&self.ended);
        let (job_id, attempt) = (launch.job_id.clone(), launch.attempt);
        // Only reaps and tells; whether the attempt is over is the launcher's to decide. Nothing is lost where it is dropped.
        self.waiting.spawn(async move {
            match child.wait().await {
                Ok(status) => tracing::debug!(%job_id, attempt, %status, "an agent ended"),
                Err(error) => tracing::warn!(%job_id, attempt, %error, "an agent cannot be waited for"),
            }
            ended.notify_one();
        });
        Ok(())
    }

    pub(crate) async fn agent_is_alive(&self, job_id: &str, attempt: u32) -> Result<bool, Error> {
        for scan in 1..=EMPTY_SCANS {
            let found = processes(job_id).await?;
            if found.iter().any(|process| process.is_agent && process.attempt == attempt) {
                return Ok(true);
            }
            if scan < EMPTY_SCANS {
                tokio::time::sleep(Duration::from_millis(LEFTOVERS_POLL_MS)).await;
            }
        }
        Ok(false)
    }

    pub(crate) async fn end_leftovers(&self, job_id: &str) -> Result<usize, Error> {
        end_all(job_id, |_| true).await
    }

    pub(crate) async fn agent_ended(&self) {
        self.ended.notified().await;
    }
}

/// Ends at once what the command of an attempt has left running, in whichever session; for the attempt's agent, which stays.
/// Answers with how many processes there were.
///
/// # Errors
/// Something does not end, or the process table cannot be read.
pub async fn end_strays(job_id: &str, attempt: u32) -> Result<usize, Error> {
    end_all(job_id, |process| process.attempt == attempt && !process.is_agent).await
}

/// Whether a process of an attempt, its agent aside, has a file below `folder` open for writing.
///
/// # Errors
/// The process table cannot be read.
pub async fn has_writers(job_id: &str, attempt: u32, folder: &Path) -> Result<bool, Error> {
    let folder = folder.to_owned();
    let mut found = processes(job_id).await?;
    found.retain(|process| process.attempt == attempt && !process.is_agent);
    let looked =
        tokio::task::spawn_blocking(move || found.iter().any(|process| process.writes_below(&folder)));
    looked.await.map_err(|error| Error::Io {
        action: "cannot read the process table",
        source: std::io::Error::other(error),
    })
}

/// Memory that the processes of an attempt use together, without its agent, bytes. Pages that processes share count once where
/// the kernel tells, which is asked only where the sum without that exceeds `limit_bytes`.
///
/// # Errors
/// The process table cannot be read.
pub async fn memory_of(job_id: &str, attempt: u32, limit_bytes: u64) -> Result<u64, Error> {
    let job_id = job_id.to_owned();
    let summed = tokio::task::spawn_blocking(move || {
        let mut found = process::of_job(&job_id)?;
        found.retain(|process| process.attempt == attempt && !process.is_agent);
        let quick: u64 = found.iter().map(Marked::resident_bytes).sum();
        if quick <= limit_bytes {
            return Ok(quick);
        }
        Ok(found.iter().map(Marked::own_bytes).sum())
    });
    summed
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|source| Error::Io { action: "cannot read the process table", source })
}

async fn end_all(job_id: &str, wanted: impl Fn(&Marked) -> bool) -> Result<usize, Error> {
    let begun = tokio::time::Instant::now();
    let (mut ended, mut empty_scans) = (0, 0);
    loop {
        let mut found = processes(job_id).await?;
        found.retain(&wanted);
        empty_scans = if found.is_empty() { empty_scans + 1 } else { 0 };
        if empty_scans == EMPTY_SCANS {
            return Ok(ended);
        }
        if begun.elapsed() > Duration::from_millis(LEFTOVERS_TIMEOUT_MS) {
            return Err(Error::Leftovers { job_id: job_id.to_owned(), processes: found.len() });
        }
        ended = ended.max(found.len());
        found.into_iter().for_each(Marked::kill);
        tokio::time::sleep(Duration::from_millis(LEFTOVERS_POLL_MS)).await;
    }
}

async fn processes(job_id: &str) -> Result<Vec<Marked>, Error> {
    let job_id = job_id.to_owned();
    tokio::task::spawn_blocking(move || process::of_job(&job_id))
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|source| Error::Io { action: "cannot read the process table", source })
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

    use super::*;
    use crate::Backend;

    fn launch(folder: &Path, job_id: &str) -> Launch {
        Launch {
            job_id: job_id.to_owned(),
            attempt: 1,
            cores: Vec::new(),
            gpus: Vec::new(),
            token: "t".into(),
            work_dir: folder.join("work"),
            agent_log: folder.join("agent.log"),
            inherited: Vec::new(),
            environment: BTreeMap::new(),
            secrets: BTreeMap::from([("SLIPWAY_S3_SECRET_KEY".to_owned(), "s".into())]),
        }
    }

    fn backend(script: &str) -> Backend {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Backend::Local(LocalProcesses::new(command).unwrap())
    }

    #[tokio::test]
    async fn leftovers_end_also_in_sessions_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let job_id = format!("leftovers-{}", std::process::id());
        let backend = backend("setsid sleep 300 & sleep 300");
        backend.start(&launch(folder.path(), &job_id)).await.unwrap();
        assert!(backend.agent_is_alive(&job_id, 1).await.unwrap());
        assert!(!backend.agent_is_alive(&job_id, 2).await.unwrap());
        assert!(backend.end_leftovers(&job_id).await.unwrap() >= 1);
        assert!(!backend.agent_is_alive(&job_id, 1).await.unwrap());
        tokio::time::timeout(Duration::from_secs(5), backend.agent_ended()).await.unwrap();
        assert_eq!(backend.end_leftovers(&job_id).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_memory_of_a_command_is_summed_over_its_processes_without_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let job_id = format!("memory-{}", std::process::id());
        let hungry = "import time; block = bytearray(64 << 20); block[::4096] = b'x' * len(block[::4096]); time.sleep(300)";
        let script = format!(
            "for n in 1 2; do env -u SLIPWAY_ATTEMPT_TOKEN python3 -c \"{hungry}\" & done; sleep 300"
        );
        let backend = backend(&script);
        backend.start(&launch(folder.path(), &job_id)).await.unwrap();
        let wanted = 128 << 20;
        let mut used = 0;
        for _ in 0..600 {
            used = memory_of(&job_id, 1, 0).await.unwrap();
            if used >= wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!((wanted..wanted * 2).contains(&used), "{used}");
        assert_eq!(memory_of(&job_id, 2, 0).await.unwrap(), 0);
        backend.end_leftovers(&job_id).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_writes_into_a_folder_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let job_id = format!("writers-{}", std::process::id());
        let (written, other) = (folder.path().join("written"), folder.path().join("other"));
        std::fs::create_dir_all(&written).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("read"), "").unwrap();
        let script = format!(
            "env -u SLIPWAY_ATTEMPT_TOKEN sh -c 'exec 3>{}/a 4<{}/read; sleep 300' & sleep 300",
            written.display(),
            other.display()
        );
        let backend = backend(&script);
        backend.start(&launch(folder.path(), &job_id)).await.unwrap();
        let mut seen = false;
        for _ in 0..600 {
            seen = has_writers(&job_id, 1, &written).await.unwrap();
            if seen {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(seen);
        assert!(!has_writers(&job_id, 1, &other).await.unwrap(), "reading is no writing");
        backend.end_leftovers(&job_id).await.unwrap();
    }

    #[tokio::test]
    async fn secrets_come_by_environment_and_never_by_argument() {
        let folder = tempfile::tempdir().unwrap();
        let launch = launch(folder.path(), &format!("secrets-{}", std::process::id()));
        assert!(!format!("{launch:?}").contains("\"s\""));
        let backend =
            backend("echo $SLIPWAY_ATTEMPT_TOKEN $SLIPWAY_S3_SECRET_KEY; tr '\\0' ' ' < /proc/$$/cmdline");
        backend.start(&launch).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), backend.agent_ended()).await.unwrap();
        let log = std::fs::read_to_string(&launch.agent_log).unwrap();
        assert!(log.starts_with("t s\n"), "{log}");
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let backend = Backend::Local(LocalProcesses::new(vec!["/nowhere/slipway-agent".to_owned()]).unwrap());
        let error = backend.start(&launch(folder.path(), "none")).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/slipway-agent"), "{error}");
        assert!(LocalProcesses::new(Vec::new()).is_err());
    }
}
