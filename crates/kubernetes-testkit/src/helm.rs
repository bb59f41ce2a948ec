//! Helm, for tests of charts.

use std::path::PathBuf;
use std::process::Command;

#[cfg(doc)]
use crate::REQUIRED_LEVEL;
use crate::shared::program_or_left_out;
use crate::{Cluster, Error, command, programs};

/// Helm, with folders of its own for what it keeps.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Helm {
    /// Helm. `None` on a machine that has not built the program and cannot build it; the reason is printed.
    ///
    /// # Panics
    /// It cannot be built, and [`REQUIRED_LEVEL`] says that tests must run.
    #[expect(clippy::expect_used, reason = "for tests, which can only fail")]
    pub fn own() -> Option<Self> {
        let program = program_or_left_out("Helm", programs::helm(&mut |_| {}))?;
        Some(Self { program, home: tempfile::tempdir().expect("a folder of one's own") })
    }

    /// Runs Helm without a cluster; its output.
    ///
    /// # Errors
    /// It fails; the error has what it wrote.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Error> {
        self.output(Command::new(&self.program).env("KUBECONFIG", "/dev/null"), arguments)
    }

    /// Runs Helm as the administrator of a cluster; its output.
    ///
    /// # Errors
    /// It fails; the error has what it wrote.
    pub fn on(&self, cluster: &Cluster, arguments: &[&str]) -> Result<String, Error> {
        self.output(&mut cluster.command(&self.program), arguments)
    }

    fn output(&self, command: &mut Command, arguments: &[&str]) -> Result<String, Error> {
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.home.path().join(folder));
        }
        command::output(command.args(arguments), &format!("helm {}", arguments.join(" ")), None)
    }
}
