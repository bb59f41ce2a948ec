//! An agent of one's own, as a process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use slipway_artifact_store::ArtifactStore;

use crate::launcher::{Launcher, TOKEN};

/// A slow machine needs this long at most.
const PATIENCE_S: u64 = 90;
const LOOK_INTERVAL_MS: u64 = 20;

/// A job that runs a shell script.
pub(crate) fn script(text: &str) -> Value {
    job(&["sh", "-c", text])
}

/// A job that runs a command.
pub(crate) fn job(command: &[&str]) -> Value {
    json!({"name": "script", "command": command, "grace_period_s": 30.0})
}

/// [`script`] with further fields.
pub(crate) fn script_with(text: &str, fields: Value) -> Value {
    let mut spec = script(text);
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

/// One attempt: its launcher, its agent, and its folder.
pub(crate) struct Attempt {
    pub(crate) launcher: Launcher,
    pub(crate) job_id: String,
    folder: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
    file_limit_kib: Option<usize>,
    child: Option<Child>,
}

impl Attempt {
    /// An attempt whose agent has not started yet.
    pub(crate) async fn of(spec: &Value) -> Self {
        Self {
            launcher: Launcher::begin(spec).await,
            job_id: format!("job-{}", uuid::Uuid::new_v4().simple()),
            folder: tempfile::tempdir().unwrap(),
            settings: Vec::new(),
            file_limit_kib: None,
            child: None,
        }
    }

    /// An attempt whose agent runs.
    pub(crate) async fn start_of(spec: &Value) -> Self {
        let mut attempt = Self::of(spec).await;
        attempt.start();
        attempt
    }

    /// An attempt that has run to its end.
    pub(crate) async fn run_of(spec: &Value) -> Self {
        let mut attempt = Self::start_of(spec).await;
        assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
        attempt
    }

    /// A further variable of the agent.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) -> &mut Self {
        self.settings.push((name, value.into()));
        self
    }

    /// Files of the agent and its command can be no longer than this, as on a disk that is full.
    pub(crate) fn limit_files(&mut self, kib: usize) -> &mut Self {
        self.file_limit_kib = Some(kib);
        self
    }

    /// Where checkpoints go.
    pub(crate) fn store_in(&mut self, store: &ArtifactStore) -> &mut Self {
        self.launcher.state().store = Some(store.clone());
        self
    }

    /// Starts the agent.
    pub(crate) fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let program = env!("CARGO_BIN_EXE_slipway-agent");
        let mut command = match self.file_limit_kib {
            // With its signal ignored, the limit makes a write fail.
            Some(kib) => {
                let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\"");
                let mut command = Command::new("bash");
                command.args(["-c", &script, program]);
                command
            }
            None => Command::new(program),
        };
        command
            .env("SLIPWAY_JOB_ID", &self.job_id)
            .env("SLIPWAY_ATTEMPT", "1")
            .env("SLIPWAY_ATTEMPT_TOKEN", TOKEN)
            .env("SLIPWAY_WORK_DIR", self.work_dir())
            .env("SLIPWAY_LAUNCHER_URL", &*self.launcher.url)
            .envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// The folder of the command.
    pub(crate) fn work_dir(&self) -> PathBuf {
        self.folder.path().join("jobs").join(&self.job_id).join("1")
    }

    /// A place outside the work folder that the script may write to.
    pub(crate) fn outside(&self) -> &Path {
        self.folder.path()
    }

    /// What the agent itself logged.
    pub(crate) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("agent.log")
    }

    /// Sends a signal to the agent.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }

    /// The agent's end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        for _ in 0..PATIENCE_S * 1_000 / LOOK_INTERVAL_MS {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
        }
        panic!("the agent has not ended after {PATIENCE_S} s:\n{}", self.agent_log());
    }

    /// Waits until something is so.
    pub(crate) async fn wait_for(&self, what: &str, mut done: impl FnMut(&Launcher) -> bool) {
        for _ in 0..PATIENCE_S * 1_000 / LOOK_INTERVAL_MS {
            if done(&self.launcher) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
        }
        let (log, job) = (self.agent_log(), self.launcher.log());
        panic!("waited {PATIENCE_S} s in vain for {what}\n--- agent ---\n{log}\n--- job ---\n{job}");
    }

    /// Waits until the job has written this.
    pub(crate) async fn wait_for_line(&self, line: &str) {
        self.wait_for(line, |launcher| launcher.log().lines().any(|found| found == line)).await;
    }

    /// Live processes of the job, without zombies.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let mark = format!("SLIPWAY_JOB_ID={}", self.job_id);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // That of a process which has ended is empty.
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
                found.push(Pid::from_raw(pid));
            }
        }
        found
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        for process in self.processes() {
            let _ = kill(process, Signal::SIGKILL);
        }
    }
}
