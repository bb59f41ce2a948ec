//! The agent that copies itself: into a volume that a pod's containers share, from where it runs in an image
//! that has nothing of ours.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// First argument of this mode, followed by the path of the copy.
pub(crate) const ARGUMENT: &str = "install";
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Any account may run it, and none may change it.
const EXECUTABLE: u32 = 0o555;

/// Copies this program to the path that the arguments say.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(path), None) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        eprintln!("slipway-agent {ARGUMENT}: expected the path of the copy");
        return ExitCode::from(crate::USAGE_EXIT_CODE);
    };
    match install(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slipway-agent {ARGUMENT}: cannot write {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// A container that is started again finds the whole copy or none.
fn install(path: &Path) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    std::fs::copy(OWN_PROGRAM, &part)?;
    std::fs::set_permissions(&part, std::fs::Permissions::from_mode(EXECUTABLE))?;
    std::fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(arguments: &[&Path]) -> ExitCode {
        run(arguments.iter().map(|argument| argument.as_os_str().to_owned()))
    }

    #[test]
    fn the_copy_is_executable_and_replaces_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slipway-agent");
        for _ in 0..2 {
            assert_eq!(run_with(&[&path]), ExitCode::SUCCESS);
        }
        let copy = std::fs::metadata(&path).unwrap();
        assert_eq!(copy.permissions().mode() & 0o777, EXECUTABLE);
        assert_eq!(copy.len(), std::fs::metadata(OWN_PROGRAM).unwrap().len());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no part is left");
    }

    #[test]
    fn a_path_that_cannot_be_written_and_a_missing_one_are_failures() {
        assert_eq!(run_with(&[Path::new("/nowhere/slipway-agent")]), ExitCode::FAILURE);
        assert_eq!(run_with(&[]), ExitCode::from(crate::USAGE_EXIT_CODE));
    }
}
