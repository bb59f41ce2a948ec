//! The step between the agent and the user's command: this program again, which becomes the command.
//!
//! Between fork and exec it asks the kernel to end the command with the agent, so that a killed agent never leaves a command
//! running beside the one of the next attempt.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// First argument of this mode, followed by the agent's process id, the error file, and the command.
pub(crate) const ARGUMENT: &str = "exec";
/// What a shell answers where a command does not exist.
const NOT_STARTED_EXIT_CODE: u8 = 127;

/// Arguments that make this program run `command`. Why it could not is left in `error_file`.
pub(crate) fn arguments(error_file: &Path, command: &[String]) -> Vec<OsString> {
    let own = [OsString::from(ARGUMENT), Pid::this().to_string().into(), error_file.into()];
    own.into_iter().chain(command.iter().map(OsString::from)).collect()
}

/// Becomes the command. Returns only where that fails.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let agent = arguments.next().and_then(|text| text.to_str()?.parse().ok()).map(Pid::from_raw);
    let (Some(agent), Some(error_file), Some(program)) = (agent, arguments.next(), arguments.next()) else {
        eprintln!("slipway-agent {ARGUMENT}: expected an agent's process id, an error file and a command");
        return ExitCode::from(crate::USAGE_EXIT_CODE);
    };
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("slipway-agent {ARGUMENT}: the command cannot be tied to its agent: {error}");
    }
    if Pid::parent() != agent {
        // The agent ended before the kernel could be asked.
        return ExitCode::FAILURE;
    }
    let error = Command::new(&program).args(arguments).exec();
    let reason = describe(&PathBuf::from(&program), &error);
    if let Err(error) = std::fs::write(&error_file, &reason) {
        eprintln!("slipway-agent {ARGUMENT}: {reason}; and that cannot be reported: {error}");
    }
    ExitCode::from(NOT_STARTED_EXIT_CODE)
}

fn describe(program: &Path, error: &std::io::Error) -> String {
    let name = program.display();
    match error.kind() {
        ErrorKind::NotFound if program.exists() => {
            format!("`{name}` names an interpreter that does not exist")
        }
        ErrorKind::NotFound => format!("command not found: {name}"),
        ErrorKind::PermissionDenied => format!("`{name}` is not executable"),
        _ => format!("`{name}` cannot be run: {error}"),
    }
}
