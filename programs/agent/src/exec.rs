//! The step between the agent and the user's command: this program again, which becomes the command.
//!
//! Between fork and exec it asks the kernel to end the command with the agent, so that a killed agent never
//! leaves a command running next to the one of the next attempt.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;

/// First argument of this mode, followed by the agent's process id, the error file, CPU cores, the directory,
/// and the command.
pub(crate) const ARGUMENT: &str = "exec";
/// What a shell answers where a command does not exist.
const NOT_STARTED_EXIT_CODE: u8 = 127;

/// Stands where the command may run on every CPU core.
const ALL_CORES: &str = "all";
/// The kernel ends the command rather than the services next to it where memory runs out. From 0 to 1000.
const OOM_SCORE: &str = "600";
const LAST_STANDARD_DESCRIPTOR: RawFd = 2;
/// Permissions that files of the command do not have: writing by others.
const COMMAND_UMASK: u32 = 0o022;

/// Arguments that make this program run `command` in `directory`, on these CPU cores, or on all where there
/// are none. Why it could not is left in `error_file`, an absolute path.
pub(crate) fn arguments(
    error_file: &Path,
    cores: &[usize],
    directory: &Path,
    command: &[String],
) -> Vec<OsString> {
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    let cores = if cores.is_empty() { ALL_CORES.to_owned() } else { cores.join(",") };
    let own = [
        OsString::from(ARGUMENT),
        Pid::this().to_string().into(),
        error_file.into(),
        cores.into(),
        directory.into(),
    ];
    own.into_iter().chain(command.iter().map(OsString::from)).collect()
}

/// Becomes the command. Returns only where that fails.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let agent = arguments.next().and_then(|text| text.to_str()?.parse().ok()).map(Pid::from_raw);
    let (Some(agent), Some(error_file), Some(cores), Some(directory), Some(program)) =
        (agent, arguments.next(), arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!(
            "slipway-agent {ARGUMENT}: expected an agent's process id, an error file, CPU cores, a directory \
             and a command"
        );
        return ExitCode::from(crate::USAGE_EXIT_CODE);
    };
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("slipway-agent {ARGUMENT}: the command cannot be tied to its agent: {error}");
    }
    if Pid::parent() != agent {
        // The agent ended before the kernel could be asked.
        return ExitCode::FAILURE;
    }
    if let Err(error) = confine(&cores.to_string_lossy()) {
        eprintln!("slipway-agent {ARGUMENT}: the command is not bound to its CPU cores: {error}");
    }
    if let Err(error) = keep_only_standard_descriptors() {
        eprintln!("slipway-agent {ARGUMENT}: open files of the platform may reach the command: {error}");
    }
    // The agent's files are its own; what the command makes is as on any other machine. Its work folder is
    // closed either way.
    umask(Mode::from_bits_truncate(COMMAND_UMASK));
    // Only a wish: without it the kernel chooses by size.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let reason = match std::env::set_current_dir(&directory) {
        Ok(()) => {
            let error = Command::new(&program).args(arguments).exec();
            describe(&PathBuf::from(&program), &error)
        }
        Err(error) => format!("the directory `{}` cannot be entered: {error}", directory.to_string_lossy()),
    };
    if let Err(error) = std::fs::write(&error_file, &reason) {
        eprintln!("slipway-agent {ARGUMENT}: {reason}; and that cannot be reported: {error}");
    }
    ExitCode::from(NOT_STARTED_EXIT_CODE)
}

/// Closes all open files but input, output and error when this process becomes the command. They were
/// inherited by the platform, whose own files are closed on exec.
fn keep_only_standard_descriptors() -> std::io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|number| *number > LAST_STANDARD_DESCRIPTOR) else { continue };
        #[expect(unsafe_code, reason = "no part of this program owns the descriptor")]
        // SAFETY: this process has one thread, and the descriptor is not used for anything but its flag.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        // That of the listing itself is closed by then.
        let _ = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}

/// Binds this process, and with it everything that it starts, to CPU cores.
fn confine(cores: &str) -> nix::Result<()> {
    if cores == ALL_CORES {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for core in cores.split(',') {
        set.set(core.parse().map_err(|_| nix::errno::Errno::EINVAL)?)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

fn describe(program: &Path, error: &std::io::Error) -> String {
    let name = program.display();
    match error.kind() {
        ErrorKind::NotFound if program.exists() => {
            format!("`{name}` names an interpreter that does not exist")
        }
        ErrorKind::NotFound => format!("command not found: {name}"),
        ErrorKind::PermissionDenied => format!(
            "`{name}` is not executable by uid {} (see the permissions of the file and of the folders above \
             it)",
            nix::unistd::geteuid()
        ),
        _ => format!("`{name}` cannot be run: {error}"),
    }
}
