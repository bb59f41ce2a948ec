//! The processes of a job, found by the marks in their environment.
//!
//! A process passes its environment on to everything that it starts, whichever process group or session these choose, and a
//! launcher that was started again finds them without having remembered any process id.

use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{ATTEMPT_VARIABLE, JOB_ID_VARIABLE, TOKEN_VARIABLE};

/// A process that carries the marks of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marked {
    pid: Pid,
    /// Number of its attempt; 0 where it carries none.
    pub(crate) attempt: u32,
    /// Whether it is the agent itself: only agents carry a token.
    pub(crate) is_agent: bool,
}

impl Marked {
    /// Sends SIGKILL. A process that has ended in the meantime is no error.
    pub(crate) fn kill(self) {
        if let Err(error) = kill(self.pid, Signal::SIGKILL)
            && error != nix::errno::Errno::ESRCH
        {
            tracing::warn!(%error, pid = %self.pid, "a left-over process cannot be ended");
        }
    }
}

/// Every living process with the marks of `job_id`, but for this one. Processes of other users stay unseen.
pub(crate) fn of_job(job_id: &str) -> io::Result<Vec<Marked>> {
    let own = Pid::this();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw)
        else {
            continue;
        };
        // It ended meanwhile, or belongs to somebody else.
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        if pid == own {
            continue;
        }
        found.extend(marks(&environment, job_id).map(|(attempt, is_agent)| Marked {
            pid,
            attempt,
            is_agent,
        }));
    }
    Ok(found)
}

/// Attempt and role from an environment block, where it belongs to the job.
fn marks(environment: &[u8], job_id: &str) -> Option<(u32, bool)> {
    let value = |name: &str| {
        environment
            .split(|byte| *byte == 0)
            .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(name)?.strip_prefix('='))
    };
    if value(JOB_ID_VARIABLE) != Some(job_id) {
        return None;
    }
    let attempt = value(ATTEMPT_VARIABLE).and_then(|text| text.parse().ok()).unwrap_or(0);
    Some((attempt, value(TOKEN_VARIABLE).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_whole_values() {
        let agent = b"PATH=/bin\0SLIPWAY_JOB_ID=7\0SLIPWAY_ATTEMPT=2\0SLIPWAY_ATTEMPT_TOKEN=x\0";
        assert_eq!(marks(agent, "7"), Some((2, true)));
        let command = b"SLIPWAY_JOB_ID=7\0SLIPWAY_ATTEMPT=2\0";
        assert_eq!(marks(command, "7"), Some((2, false)));
        assert_eq!(marks(command, "77"), None);
        assert_eq!(marks(b"XSLIPWAY_JOB_ID=7\0", "7"), None);
        assert_eq!(marks(b"", "7"), None);
    }
}
