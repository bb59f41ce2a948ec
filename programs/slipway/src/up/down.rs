//! `slipway down`: stops a platform that runs on a data directory.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lock;
use crate::output::outln;

/// The platform stops its parts in order within this time; then it is ended by force.
const STOP_TIMEOUT_MS: u64 = 40_000;
const POLL_MS: u64 = 50;

pub(crate) fn run(data_dir: &Path) -> anyhow::Result<ExitCode> {
    let Some(pid) = lock::holder(data_dir)? else {
        outln!("no platform is running on {}", data_dir.display());
        return Ok(ExitCode::SUCCESS);
    };
    let process = Pid::from_raw(pid);
    if kill(process, Signal::SIGTERM).is_err() {
        bail!("process {pid} holds {} but cannot be signalled: is it another user's?", data_dir.display());
    }
    let started = Instant::now();
    while lock::holder(data_dir)?.is_some() {
        if started.elapsed() > Duration::from_millis(STOP_TIMEOUT_MS) {
            // Its children die with it, and every part recovers from that at the next start.
            let _ = kill(process, Signal::SIGKILL);
            bail!(
                "the platform did not stop within {STOP_TIMEOUT_MS} ms and was ended by force; its data \
                 recovers at the next start"
            );
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
    outln!(
        "stopped after {:.1} s; the data stays in {}",
        started.elapsed().as_secs_f64(),
        data_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}
