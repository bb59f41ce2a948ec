//! The processes of a job, found as an operator would find them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process of a job.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) is_agent: bool,
}

/// All living processes of a job.
pub(crate) fn of_job(job_id: &str) -> Vec<Process> {
    let mark = format!("SLIPWAY_JOB_ID={job_id}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        let mut variables = environment.split(|byte| *byte == 0);
        if !variables.clone().any(|variable| variable == mark.as_bytes()) {
            continue;
        }
        let is_agent = variables.any(|variable| variable.starts_with(b"SLIPWAY_ATTEMPT_TOKEN="));
        found.push(Process { pid: Pid::from_raw(pid), is_agent });
    }
    found
}

/// The token of the job's current attempt, once its agent has been started.
pub(crate) fn token(job_id: &str) -> Option<String> {
    let agent = of_job(job_id).into_iter().find(|process| process.is_agent)?;
    let environment = std::fs::read(format!("/proc/{}/environ", agent.pid)).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let token = variables.find_map(|variable| variable.strip_prefix(b"SLIPWAY_ATTEMPT_TOKEN="))?;
    String::from_utf8(token.to_vec()).ok()
}

/// Sends a signal to the job's agent.
pub(crate) fn signal_agent(job_id: &str, signal: Signal) {
    let agent = of_job(job_id).into_iter().find(|process| process.is_agent).unwrap();
    kill(agent.pid, signal).unwrap();
}

/// `kill -9` of everything that belongs to the job, the agent first.
pub(crate) fn kill_all(job_id: &str) -> usize {
    let mut processes = of_job(job_id);
    processes.sort_by_key(|process| !process.is_agent);
    processes.iter().filter(|process| kill(process.pid, Signal::SIGKILL).is_ok()).count()
}
