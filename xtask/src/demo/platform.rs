//! The platform that the demo runs on: started, found, stopped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::build::{Programs, run};
use crate::endpoints::Endpoints;

/// A running platform.
#[derive(Debug, Clone)]
pub(crate) struct Platform {
    programs: Programs,
    data_dir: PathBuf,
    pub(crate) endpoints: Endpoints,
}

impl Platform {
    /// Stops what still runs on the data directory and removes it.
    pub(crate) fn clear(programs: &Programs, data_dir: &Path) -> anyhow::Result<()> {
        if data_dir.join("endpoints.json").exists() {
            let stopped =
                Command::new(&programs.slipway).arg("down").arg("--data-dir").arg(data_dir).status();
            stopped.context("cannot start slipway")?;
        }
        match std::fs::remove_dir_all(data_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", data_dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Starts a platform in the background on free ports; it is ready when this returns.
    pub(crate) fn start(programs: &Programs, data_dir: &Path) -> anyhow::Result<Self> {
        run(Command::new(&programs.slipway)
            .arg("up")
            .args(["--ports", "auto", "--detach"])
            .arg("--data-dir")
            .arg(data_dir))?;
        let endpoints = Endpoints::read(data_dir)?;
        Ok(Self { programs: programs.clone(), data_dir: data_dir.to_path_buf(), endpoints })
    }

    /// Stops it; the data stays.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        run(Command::new(&self.programs.slipway).arg("down").arg("--data-dir").arg(&self.data_dir))
    }
}

/// Ends every process of a job's attempt with SIGKILL, as a preempted machine would. Answers with how many
/// there were.
pub(crate) fn kill_job_processes(job_id: &str) -> usize {
    use nix::sys::signal::{Signal, kill};
    let needle = format!("SLIPWAY_JOB_ID={job_id}");
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes())
            && kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).is_ok()
        {
            killed += 1;
        }
    }
    killed
}
