//! What can go wrong with a cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Level;

/// What can go wrong with a cluster. Each error names what failed, why, and where to look.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine cannot run the level.
    #[error("level {level} of the Kubernetes test cluster cannot run: {reason}")]
    Missing {
        /// The level.
        level: Level,
        /// What is missing.
        reason: String,
    },
    /// A file or a folder cannot be used.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried, e.g. `cannot write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A command failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// The command, as a user would write it.
        command: String,
        /// What it wrote last.
        reason: String,
    },
    /// A program of the cluster ended while the cluster started.
    #[error("{program} ended with {status} while the cluster started; its log ends with:\n{log}")]
    Ended {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// A condition did not become true in time.
    #[error("no {condition} after {} s; last: {last}", limit.as_secs())]
    Timeout {
        /// What was expected.
        condition: String,
        /// How long it was waited for.
        limit: Duration,
        /// What was found last.
        last: String,
    },
    /// A Go module has another checksum than it is to have, or none.
    #[error("the module {module} has the checksum {found}; expected {expected}")]
    Module {
        /// Path and version.
        module: String,
        /// What it is to have.
        expected: String,
        /// What it has.
        found: String,
    },
    /// A folder holds no running cluster.
    #[error("there is no running cluster in {}", folder.display())]
    NotRunning {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder already holds a running cluster.
    #[error("a cluster runs in {} already", folder.display())]
    Running {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder cannot hold a cluster.
    #[error("{} cannot hold a cluster: {reason}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// An image cannot be made.
    #[error("cannot make the image {image}: {reason}")]
    Image {
        /// Its name.
        image: String,
        /// Why.
        reason: String,
    },
    /// The archive of an image cannot be made.
    #[error(transparent)]
    Archive(#[from] slipway_oci_image::Error),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A server's tool is missing or damaged.
    #[error(transparent)]
    Toolbox(#[from] slipway_toolbox::Error),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_path_buf(), source }
    }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_has_the_last_lines_without_blank_ones() {
        assert_eq!(tail("a\nb\n\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
        assert_eq!(tail("", 2), "");
    }
}
