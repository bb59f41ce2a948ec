//! What an earlier run of a server left behind: its process, and processes and ports that outlive a crash for
//! a moment.
//!
//! A server that was killed with its platform is not gone at once. Its children still hold shared memory or
//! files, and its ports close when the kernel has torn down the last of them. A successor that starts in that
//! moment fails.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Account, Error, private, process};

const POLL: Duration = Duration::from_millis(20);

/// Longest wait for a process that was signalled, before the next signal.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a port. Ports of a crashed predecessor close within milliseconds, on a busy machine
/// within seconds.
pub const PORT_LIMIT: Duration = Duration::from_secs(5);

/// A process, distinguished from a later one with the same id by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    pid: i32,
    /// Clock ticks since boot: field 22 of `/proc/PID/stat`, see proc(5).
    started: u64,
}

impl Identity {
    fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let is_zombie = fields.next()? == "Z";
        let started = fields.nth(18)?.parse().ok()?;
        (!is_zombie).then_some(Self { pid, started })
    }

    fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// The file that names the process of a server, so that the next start finds it.
#[derive(Debug, Clone)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    pub(super) fn in_folder(dir: &Path) -> Self {
        Self(dir.join("server.pid"))
    }

    pub(super) fn record(&self, pid: u32) -> Result<(), Error> {
        let identity = i32::try_from(pid).ok().and_then(Identity::of);
        // A server that ended already needs no record.
        let Some(Identity { pid, started }) = identity else { return Ok(()) };
        private::write(&self.0, &format!("{pid} {started}\n"), Account::ours())
    }

    /// Stops the recorded process where it still runs: with `signal` first, by force after [`SIGNAL_LIMIT`].
    pub(super) fn stop_recorded(&self, signal: Signal) {
        // Without the check another program would get the signal, whose process has the id by now.
        if let Some(identity) = self.read().filter(|identity| identity.is_running()) {
            process::stop_foreign(identity.pid, signal, SIGNAL_LIMIT, || identity.is_running());
        }
        let _ = std::fs::remove_file(&self.0);
    }

    fn read(&self) -> Option<Identity> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Identity { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }
}

/// Waits until no process works in `dir`: at first for as long as `grace`, then with each of `signals` in
/// turn.
///
/// The working directory identifies the children of a server (Postgres' backends) when their parent is gone:
/// they change their command lines, but never their folder.
pub(super) fn wait_until_unused(dir: &Path, grace: Duration, signals: &[Signal]) {
    if !is_used_after(dir, grace) {
        return;
    }
    for signal in signals {
        for identity in working_in(dir) {
            let _ = kill(Pid::from_raw(identity.pid), *signal);
        }
        if !is_used_after(dir, SIGNAL_LIMIT) {
            return;
        }
    }
}

fn is_used_after(dir: &Path, limit: Duration) -> bool {
    let started = Instant::now();
    while !working_in(dir).is_empty() {
        if started.elapsed() > limit {
            return true;
        }
        std::thread::sleep(POLL);
    }
    false
}

/// Processes whose working directory is `dir`. Those of other users are seen by root alone.
fn working_in(dir: &Path) -> Vec<Identity> {
    let pids = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir))
        .filter_map(Identity::of)
        .collect()
}

/// Waits until a port of 127.0.0.1 can be bound, for `limit` at most; whether it can be.
pub fn wait_for_port(port: u16, limit: Duration) -> bool {
    let started = Instant::now();
    loop {
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return true;
        }
        if started.elapsed() > limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(dir: &Path, program: &str) -> Child {
        Command::new("sh").args(["-c", program]).current_dir(dir).spawn().unwrap()
    }

    #[test]
    fn a_recorded_process_is_stopped_and_a_later_one_with_its_id_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = PidFile::in_folder(folder.path());
        let mut child = sleeper(folder.path(), "exec sleep 600");
        file.record(child.id()).unwrap();
        file.stop_recorded(Signal::SIGTERM);
        assert!(child.wait().unwrap().code().is_none());

        let mut other = sleeper(folder.path(), "exec sleep 600");
        std::fs::write(folder.path().join("server.pid"), format!("{} 1\n", other.id())).unwrap();
        file.stop_recorded(Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn processes_that_work_in_a_folder_are_waited_for_and_then_ended() {
        let folder = tempfile::tempdir().unwrap();
        let dir = std::fs::canonicalize(folder.path()).unwrap();
        let mut ends_by_itself = sleeper(&dir, "sleep 0.2");
        wait_until_unused(&dir, Duration::from_secs(60), &[]);
        assert!(ends_by_itself.wait().unwrap().success());

        let mut stays = sleeper(&dir, "exec sleep 600");
        wait_until_unused(&dir, Duration::from_millis(50), &[Signal::SIGQUIT, Signal::SIGKILL]);
        assert_eq!(working_in(&dir), []);
        assert!(!stays.wait().unwrap().success());
    }

    #[test]
    fn a_port_is_free_once_its_listener_is_gone() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!wait_for_port(port, Duration::from_millis(30)));
        let closes = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(listener);
        });
        assert!(wait_for_port(port, Duration::from_secs(60)));
        closes.join().unwrap();
    }
}
