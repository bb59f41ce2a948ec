//! `cargo xtask compose-test`: docker-compose.yml, run with podman-compose against images of this checkout.

mod checks;
mod dockerfiles;
mod engine;
mod platform;
mod stand_ins;

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use engine::Engine;
use platform::Platform;

use crate::build::{self, root};
use crate::images::{self, Profile};
use crate::progress::step;
use crate::venv;

/// Environment variable that makes a missing program an error.
const REQUIRED: &str = "SLIPWAY_TEST_COMPOSE";
/// Images of docker-compose.yml that are made here.
const IMAGES: [&str; 6] = [
    "slipway",
    "slipway-registry",
    "slipway-launcher",
    "slipway-rollout-controller",
    "slipway-drift-monitor",
    "slipway-serving-onnx-cpu",
];

/// Arguments of `cargo xtask compose-test`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Cargo profile of the programs in the images.
    #[arg(long, value_enum, default_value = "dev")]
    profile: Profile,
    /// Uses the programs of the last build of this profile.
    #[arg(long)]
    no_build: bool,
}

/// Runs the test with the programs that `cargo xtask test` has built.
pub(crate) fn after_build() -> anyhow::Result<()> {
    if engine::missing().is_none() {
        build::static_agent(false)?;
    }
    run(&Options { profile: Profile::Dev, no_build: true })
}

/// Runs the test, or prints why this machine cannot.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(reason) = engine::missing() {
        if std::env::var(REQUIRED).is_ok_and(|value| value == "on") {
            bail!("{REQUIRED} is `on`, and the test of docker-compose.yml cannot run: {reason}");
        }
        println!("left out: the test of docker-compose.yml: {reason}");
        return Ok(());
    }
    let folder = root().join("target/compose-test");
    remove(&folder)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let engine = Engine::new(&folder)?;
    let outcome = in_folder(options, &folder, &engine);
    let cleared = step("compose: remove containers, volumes and images", || {
        engine.clear()?;
        remove(&folder)
    });
    if let (Err(_), Err(error)) = (&outcome, &cleared) {
        eprintln!("{error:#}");
    }
    outcome.and(cleared)
}

fn in_folder(options: &Options, folder: &Path, engine: &Engine) -> anyhow::Result<()> {
    let python = venv::ensure()?;
    step("compose: images of this checkout, and of servers", || {
        let made = images::for_test(options.profile, options.no_build, &IMAGES, &folder.join("images"))?;
        let busybox = engine::find("busybox").context("there is no busybox")?;
        let servers = stand_ins::write(folder, &busybox)?;
        for archive in made.iter().map(|one| &one.archive).chain(&servers) {
            engine.podman(&["load", "--quiet", "--input", &archive.to_string_lossy()])?;
            std::fs::remove_file(archive)?;
        }
        Ok(())
    })?;
    let slipway = build::built(false).slipway;
    let platform = Platform::new(engine, folder, &slipway)?;
    let outcome = checks::run(&platform, &python);
    if outcome.is_err() {
        eprintln!("{}", platform.logs());
    }
    let removed = platform.remove();
    outcome.and(removed)?;
    step("compose: deploy/docker with buildah", || dockerfiles::run(engine, folder))
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}
