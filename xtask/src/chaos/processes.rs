//! The processes of the services, and the agents of jobs.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slipway_toolbox::process;

use super::faults::{Replica, Service};

const STOP_LIMIT: Duration = Duration::from_secs(20);
/// The shortest lease: a lost job is started again within the run.
const LEASE_MS: &str = "15000";
/// More than the machine has: the jobs sleep.
const JOB_CPUS: &str = "16";

/// Environment of one replica.
pub(super) type Environment = BTreeMap<String, String>;

/// All replicas. The thread that starts one has to live as long as it.
#[derive(Debug)]
pub(super) struct Fleet {
    slipway: PathBuf,
    dir: PathBuf,
    environments: BTreeMap<Replica, Environment>,
    children: BTreeMap<Replica, Child>,
}

impl Fleet {
    pub(super) fn new(slipway: &Path, dir: &Path, environments: BTreeMap<Replica, Environment>) -> Self {
        Self { slipway: slipway.to_owned(), dir: dir.to_owned(), environments, children: BTreeMap::new() }
    }

    /// Starts a replica, without waiting for it.
    pub(super) fn start(&mut self, replica: Replica) -> anyhow::Result<()> {
        let data = self.dir.join(replica.to_string());
        std::fs::create_dir_all(&data)?;
        let log = self.dir.join("logs").join(format!("{replica}.log"));
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.slipway);
        command
            .args(["service", replica.service.name()])
            .envs(self.environments.get(&replica).into_iter().flatten())
            .env("SLIPWAY_DATA_DIR", &data)
            .env("SLIPWAY_CACHE_DIR", &data)
            .env("SLIPWAY_LEASE_MS", LEASE_MS)
            .env("SLIPWAY_MAX_JOB_CPUS", JOB_CPUS)
            .env("SLIPWAY_WEBHOOK_ALLOW_PRIVATE", "true")
            .env("SLIPWAY_WEBHOOK_RETRY_INITIAL_MS", "500")
            .env("SLIPWAY_WEBHOOK_RETRY_MAX_MS", "4000")
            .env("SLIPWAY_WEBHOOK_MAX_ATTEMPTS", "100")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if replica.service == Service::Serving {
            command.env("SLIPWAY_REPLICA_ID", replica.to_string());
        }
        process::own_session(&mut command);
        process::die_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        self.children.insert(replica, child);
        Ok(())
    }

    pub(super) fn kill(&mut self, replica: Replica) {
        if let Some(mut child) = self.children.remove(&replica) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn signal(&self, replica: Replica, signal: Signal) {
        if let Some(child) = self.children.get(&replica) {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    /// Replicas that ended without being killed, with their statuses.
    pub(super) fn ended(&mut self) -> Vec<(Replica, String)> {
        let status = |child: &mut Child| child.try_wait().ok().flatten().map(|status| status.to_string());
        self.children.iter_mut().filter_map(|(replica, child)| Some((*replica, status(child)?))).collect()
    }

    /// Processes of agents of this run's jobs.
    pub(super) fn agents(&self) -> Vec<i32> {
        of_folder(&self.dir).into_iter().filter(|pid| is_agent(*pid)).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.children.values() {
            let pid = Pid::from_raw(child.id().cast_signed());
            let _ = (kill(pid, Signal::SIGCONT), kill(pid, Signal::SIGTERM));
        }
        for child in self.children.values_mut() {
            process::stop(child, Signal::SIGTERM, STOP_LIMIT);
        }
        // Agents and their commands outlive the launchers. Servers have the folder in their arguments only.
        let commands = of_folder(&self.dir).into_iter().filter(|pid| names(*pid, "environ", &self.dir));
        for pid in commands.chain(self.agents()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Whether a process is an agent, `slipway agent` or `slipway-agent`, or its guard.
pub(super) fn is_agent(pid: i32) -> bool {
    process::runs_with(pid, &["slipway", "agent"])
}

/// Whether a file of a process in `/proc` has the path of the folder.
fn names(pid: i32, file: &str, dir: &Path) -> bool {
    let needle = dir.as_os_str().as_bytes();
    let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.windows(needle.len()).any(|window| window == needle)
}

/// Processes other than this one whose environment or arguments name the folder.
fn of_folder(dir: &Path) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| pid.cast_unsigned() != std::process::id())
        .filter(|pid| names(*pid, "environ", dir) || names(*pid, "cmdline", dir))
        .collect()
}
