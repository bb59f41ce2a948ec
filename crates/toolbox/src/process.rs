//! Child processes that never outlive us, and that end when asked.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const POLL_MS: u64 = 10;

/// Has the kernel send SIGKILL to the child when *the thread that starts it* ends, also when we are killed
/// ourselves. Start such a child from a thread that lives as long as the child is wanted.
pub fn die_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: the closure calls prctl, getppid and nothing that allocates or locks.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have ended before the request took effect.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::Error::ESRCH.into()) }
        });
    }
}

/// Gives the child a process session of its own: a hang-up or Ctrl-C at our terminal does not reach it.
pub fn own_session(command: &mut Command) {
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: the closure calls setsid and nothing else.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
}

/// Asks a child to end with `signal`, waits, and ends it by force after `limit`.
pub fn stop(child: &mut Child, signal: Signal, limit: Duration) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    let _ = kill(pid_of(child), signal);
    let started = Instant::now();
    while started.elapsed() < limit {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
    let _ = child.kill();
    child.wait().ok()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Whether a process runs whose command line holds all of `words`; zombies do not count.
pub fn runs_with(pid: i32, words: &[&str]) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    words.iter().all(|word| line.contains(word))
}

/// Asks a process that is not our child to end, waits, and ends it by force after `limit`.
pub fn stop_foreign(pid: i32, signal: Signal, limit: Duration, still_ours: impl Fn() -> bool) {
    let _ = kill(Pid::from_raw(pid), signal);
    let started = Instant::now();
    while still_ours() {
        if started.elapsed() > limit {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
        if started.elapsed() > limit * 2 {
            return;
        }
    }
}

/// Has the child make files and folders that only its owner can use.
pub fn private_files(command: &mut Command) {
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: the closure calls umask and nothing else.
    unsafe {
        command.pre_exec(|| {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
            Ok(())
        });
    }
}

/// Leaves a file open in the child, under the same number.
pub(crate) fn inherit(command: &mut Command, file: Arc<File>) {
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: the closure calls fcntl and nothing else.
    unsafe {
        command.pre_exec(move || {
            nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
            Ok(())
        });
    }
}
