//! Building the workspace and running what it built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::progress::step;

/// Root of the checkout.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or_else(|| manifest.to_path_buf(), Path::to_path_buf)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // `cargo xtask` describes its own package in the environment. Build scripts that look at it would run
    // again, and all that stands on them be built again, each time that a person's cargo and ours take turns.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Runs a command to its end; failing is an error that names it.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Where programs run that bring everything they need.
pub(crate) const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

/// The agent as a program that runs in any image of a container.
pub(crate) fn static_agent(release: bool) -> anyhow::Result<PathBuf> {
    step("build the agent for containers", || {
        // Where there is no rustup, cargo says what is missing.
        let _ = Command::new("rustup").args(["target", "add", STATIC_TARGET]).output();
        let mut command = cargo();
        command.args(["build", "--package", "slipway-agent", "--target", STATIC_TARGET]);
        if release {
            command.arg("--release");
        }
        run(&mut command)
    })?;
    let folder = target_dir().join(STATIC_TARGET).join(if release { "release" } else { "debug" });
    Ok(folder.join("slipway-agent"))
}

/// Crates with tests that compare a document in the repository with the code, and the start of their names.
const DOCUMENTED: [&str; 7] = [
    "slipway-registry",
    "slipway-launcher",
    "slipway-rollout-controller",
    "slipway-drift-monitor",
    "slipway-serving",
    "slipway-api",
    "slipway-kubernetes-resources",
];
const COMPARING_TESTS: &str = "in_the_repository";

/// Runs the tests that compare documents with the code. Without `check`, they write the documents instead.
pub(crate) fn documents(check: bool) -> anyhow::Result<()> {
    let mut command = cargo();
    command.arg("test").arg("--quiet");
    if !check {
        command.env("SLIPWAY_WRITE_DOCS", "1");
    }
    for package in DOCUMENTED {
        command.args(["--package", package]);
    }
    command.args(["--lib", "--", COMPARING_TESTS]);
    let what = if check { "comparing" } else { "writing" };
    step(&format!("{what} the documents that are generated from the code"), || run(&mut command))
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The programs that `slipway up` needs, built.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// The command line.
    pub(crate) slipway: PathBuf,
}

/// Builds the `slipway` command.
pub(crate) fn programs(release: bool) -> anyhow::Result<Programs> {
    step("build slipway (the first time takes some minutes)", || {
        let mut command = cargo();
        command.args(["build", "--package", "slipway", "--package", "slipway-agent"]);
        if release {
            command.arg("--release");
        }
        run(&mut command)
    })?;
    Ok(built(release))
}

/// The programs of the last build.
pub(crate) fn built(release: bool) -> Programs {
    let folder = target_dir().join(if release { "release" } else { "debug" });
    Programs { slipway: folder.join("slipway") }
}

/// Builds one program with optimisations.
pub(crate) fn release(package: &str) -> anyhow::Result<PathBuf> {
    step(&format!("build {package} with optimisations"), || {
        run(cargo().args(["build", "--release", "--package", package]))
    })?;
    Ok(target_dir().join("release").join(package))
}

/// Builds, then becomes `slipway up`.
pub(crate) fn up(arguments: &[String]) -> anyhow::Result<()> {
    let programs = programs(false)?;
    run(Command::new(&programs.slipway).arg("up").args(arguments))
}

/// Fetches the real servers.
pub(crate) fn toolbox() -> anyhow::Result<()> {
    step("fetch PostgreSQL, NATS, SeaweedFS and ONNX Runtime", || {
        let toolbox = slipway_toolbox::Toolbox::from_env()?;
        toolbox.ensure_all(&mut |message: &str| eprintln!("    {message}"))?;
        Ok(())
    })
}
