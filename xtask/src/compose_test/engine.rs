//! Podman and podman-compose, with storage and networks of their own, so that nothing of the machine's
//! containers is touched and nothing is left.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail};

/// podman-compose before it passes health checks of images without a shell on wrongly, and knows no profiles.
const MIN_COMPOSE: (u32, u32) = (1, 2);
const PROGRAMS: [&str; 4] = ["podman", "buildah", "busybox", "podman-compose"];

/// Where distributions have podman's name server.
const NAME_SERVERS: [&str; 2] = ["/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns"];

/// Why this machine cannot run the test, if it cannot.
pub(super) fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it requires root".to_owned());
    }
    for program in PROGRAMS {
        if find(program).is_none() {
            return Some(format!("there is no {program}; `.ci/containers` installs it"));
        }
    }
    if !NAME_SERVERS.iter().any(|path| Path::new(path).is_file()) {
        return Some(
            "there is no aardvark-dns, by which containers find each other; `.ci/containers` installs it"
                .to_owned(),
        );
    }
    let version = text(Command::new("podman-compose").arg("version")).unwrap_or_default();
    match compose_version(&version) {
        Some(version) if version >= MIN_COMPOSE => None,
        _ => Some(format!(
            "podman-compose {}.{} or newer is required, `.ci/containers` installs it; found: {}",
            MIN_COMPOSE.0,
            MIN_COMPOSE.1,
            version.lines().next().unwrap_or("nothing")
        )),
    }
}

/// The version in `podman-compose version 1.6.0`.
fn compose_version(text: &str) -> Option<(u32, u32)> {
    let line = text.lines().find(|line| line.starts_with("podman-compose"))?;
    let mut numbers = line.split_whitespace().last()?.split('.').map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// A program in the `PATH`.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Podman with a folder of its own.
#[derive(Debug)]
pub(super) struct Engine {
    folder: PathBuf,
    /// Sockets are here: their paths must be short.
    run: tempfile::TempDir,
}

impl Engine {
    pub(super) fn new(folder: &Path) -> anyhow::Result<Self> {
        let run = tempfile::Builder::new().prefix("slipway-compose-").tempdir_in("/tmp")?;
        let engine = Self { folder: folder.to_owned(), run };
        std::fs::create_dir_all(folder.join("networks")).context("cannot make a folder for networks")?;
        let shown = |name: &str| engine.folder.join(name).display().to_string();
        let run = engine.run.path().display();
        // Debian's default runtime refuses some machines' cgroups, and the limits need a capability.
        let runtime = if find("runc").is_some() { "runtime = \"runc\"\n" } else { "" };
        let containers = format!(
            "[containers]\ndefault_ulimits = []\noom_score_adj = 0\n[engine]\n{runtime}\
             events_logger = \"file\"\ntmp_dir = \"{run}/libpod\"\nvolume_path = \"{}\"\n\
             [network]\nnetwork_config_dir = \"{}\"\n",
            shown("volumes"),
            shown("networks"),
        );
        std::fs::write(folder.join("containers.conf"), containers)?;
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{run}/storage\"\n",
            shown("storage"),
        );
        std::fs::write(folder.join("storage.conf"), storage)?;
        Ok(engine)
    }

    /// A program that uses this storage.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("CONTAINERS_CONF", self.folder.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"));
        command
    }

    /// Runs podman, and returns what it prints.
    pub(super) fn podman(&self, arguments: &[&str]) -> anyhow::Result<String> {
        text(self.command("podman").args(arguments))
    }

    /// Removes all containers, volumes, networks and images.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        // With those that depend on them, in whatever order they are listed.
        self.podman(&["rm", "--all", "--force", "--depend", "--time", "5"])?;
        self.podman(&["volume", "prune", "--force"])?;
        self.podman(&["network", "prune", "--force"])?;
        self.podman(&["rmi", "--all", "--force"])?;
        Ok(())
    }
}

/// Runs a command, and returns what it prints on standard output; failing is an error with what it printed
/// last on standard error.
pub(super) fn text(command: &mut Command) -> anyhow::Result<String> {
    let output = run(command)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = errors.lines().rev().take(12).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{} ended with {}: {}", shown(command), output.status, last.join("\n"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a command prints on standard output and standard error, whether it fails or not.
pub(super) fn everything(command: &mut Command) -> String {
    match run(command) {
        Ok(output) => {
            [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat()
        }
        Err(error) => format!("{error:#}"),
    }
}

fn run(command: &mut Command) -> anyhow::Result<Output> {
    command.output().with_context(|| format!("cannot start {}", shown(command)))
}

/// The program and its arguments, without the environment, which has secrets.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_podman_compose_is_that_of_its_line() {
        assert_eq!(compose_version("podman-compose version 1.6.0\npodman version 4.3.1\n"), Some((1, 6)));
        // What Debian's 1.0.3 prints.
        let old =
            "['podman', '--version', '']\nusing podman version: 4.3.1\npodman-composer version  1.0.3\n";
        assert_eq!(compose_version(old), Some((1, 0)));
        assert!(compose_version(old) < Some(MIN_COMPOSE));
        assert_eq!(compose_version(""), None);
    }
}
