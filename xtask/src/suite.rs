//! `cargo xtask test`: everything that CI runs.

mod dependencies;
mod end_to_end;
mod kubernetes;
mod programs;

use clap::Args;
use slipway_kubernetes_testkit::Level;

use crate::build::{self, Programs, cargo};
use crate::findings::run as run_command;
use crate::progress::step;
use crate::{compose_test, layers, tidy, venv};

/// Arguments of `cargo xtask test`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Skips the end-to-end tests, which start the whole platform and train models.
    #[arg(long)]
    fast: bool,
    /// Runs the end-to-end tests only.
    #[arg(long, conflicts_with = "fast")]
    end_to_end: bool,
}

/// Formatting, lints, layers, unit and integration tests, then the platform as a whole.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    // First, as it may take longer than everything that cargo compiles.
    let kubernetes = (!options.end_to_end).then(kubernetes::Preparation::begin);
    if !options.end_to_end {
        lints()?;
    }
    build::toolbox()?;
    let programs = match kubernetes {
        Some(kubernetes) => workspace(kubernetes)?,
        None => build::programs(false)?,
    };
    if options.fast {
        return Ok(());
    }
    let python = venv::ensure()?;
    end_to_end::run(&programs, &python)?;
    // Its images need the programs of all services, which a build for these tests alone does not make.
    if options.end_to_end { Ok(()) } else { compose_test::after_build() }
}

/// Builds the whole workspace and runs its tests. Returns the programs of that build: one of fewer packages
/// would compile most dependencies again, with other features.
fn workspace(kubernetes: kubernetes::Preparation) -> anyhow::Result<Programs> {
    let tests = step("build the programs and their tests", programs::build)?;
    let level = kubernetes.finish()?;
    if level == Some(Level::Node) {
        build::static_agent(false)?;
        // Its Python trains in the tests on a node.
        venv::ensure()?;
    }
    programs::run(tests, level)?;
    Ok(build::built(false))
}

fn lints() -> anyhow::Result<()> {
    step("formatting", || run_command(cargo().args(["fmt", "--all", "--check"])))?;
    step("layers", || layers::run(false))?;
    step("tidy", tidy::run)?;
    step("dependencies", dependencies::check)?;
    step("lints", || {
        run_command(cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]))
    })
}
