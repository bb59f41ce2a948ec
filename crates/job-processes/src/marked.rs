//! The processes of a job, found by the marks in their environment.
//!
//! A process passes its environment on to everything that it starts, whichever process group or session these
//! choose, and a launcher that was started again finds them without having remembered any process id.

use std::io;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slipway_domain::training::attempt::{ATTEMPT_VARIABLE, JOB_ID_VARIABLE, TOKEN_VARIABLE};

/// Bits of `open`'s flags that tell reading from writing, and their value for reading alone.
const ACCESS_MODE: u32 = 0o3;
const READ_ONLY: u32 = 0o0;

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
    /// Whether it has a file below `folder` open for writing.
    pub(crate) fn writes_below(&self, folder: &Path) -> bool {
        let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return false };
        open.flatten().any(|entry| {
            let is_below = std::fs::read_link(entry.path()).is_ok_and(|path| path.starts_with(folder));
            let number = entry.file_name();
            is_below && self.is_writable(&number.to_string_lossy())
        })
    }

    fn is_writable(&self, descriptor: &str) -> bool {
        let info =
            std::fs::read_to_string(format!("/proc/{}/fdinfo/{descriptor}", self.pid)).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
        flags & ACCESS_MODE != READ_ONLY
    }

    /// Resident memory, bytes; 0 where the process has ended.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.kilobytes("status", &["VmRSS:"])
    }

    /// Memory that is this process's own, bytes: anonymous and shared memory, each page divided by the
    /// processes that map it. Files that are only mapped do not count.
    pub(crate) fn own_bytes(&self) -> u64 {
        match self.kilobytes("smaps_rollup", &["Pss_Anon:", "Pss_Shmem:"]) {
            // A kernel without it; then shared pages count several times.
            0 => self.kilobytes("status", &["RssAnon:", "RssShmem:"]),
            bytes => bytes,
        }
    }

    /// The sum of fields of a file of `/proc/<pid>`, which gives them in kB.
    fn kilobytes(&self, file: &str, fields: &[&str]) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap_or_default();
        let lines = text.lines().filter(|line| fields.iter().any(|field| line.starts_with(field)));
        let values = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        values.sum::<u64>().saturating_mul(1024)
    }

    /// Sends SIGKILL. A process that has ended in the meantime is no error.
    pub(crate) fn kill(self) {
        if let Err(error) = kill(self.pid, Signal::SIGKILL)
            && error != nix::errno::Errno::ESRCH
        {
            tracing::warn!(%error, pid = %self.pid, "orphaned process cannot be ended");
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
        // It ended meanwhile, or belongs to another user.
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
