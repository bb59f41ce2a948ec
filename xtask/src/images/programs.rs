//! The programs of images, built by cargo.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use slipway_oci_image::Compression;

use super::catalog::{Image, Variant};
use crate::build::{STATIC_TARGET, cargo, root, run, target_dir};
use crate::progress::step;

/// Program of the static agent.
const AGENT: &str = "slipway-agent";

/// A profile of cargo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// What images for others are made with.
    Dist,
    /// Optimised.
    Release,
    /// Built fastest.
    Dev,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Dist => "dist",
            Self::Release => "release",
            Self::Dev => "dev",
        }
    }

    /// Folder below cargo's.
    const fn folder(self) -> &'static str {
        match self {
            Self::Dist => "dist",
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }
}

/// Built programs.
#[derive(Debug)]
pub(crate) struct Programs {
    /// How images of them are compressed.
    pub(crate) compression: Compression,
    folder: PathBuf,
    /// Of static programs.
    static_folder: PathBuf,
    /// Where programs without debugging information are, in a profile that keeps it.
    stripped: Option<tempfile::TempDir>,
}

impl Programs {
    /// Those in a folder, as they are.
    #[cfg(test)]
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self {
            compression: Compression::Gzip,
            folder: folder.to_owned(),
            static_folder: folder.to_owned(),
            stripped: None,
        }
    }

    /// The program of an image.
    pub(crate) fn of(&self, image: &Image) -> anyhow::Result<PathBuf> {
        if image.variant == Variant::Static { self.agent() } else { self.ready(&self.folder, image.name) }
    }

    /// The static agent.
    pub(crate) fn agent(&self) -> anyhow::Result<PathBuf> {
        self.ready(&self.static_folder, AGENT)
    }

    fn ready(&self, folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let program = folder.join(name);
        if !program.is_file() {
            bail!("there is no program {}: build it first, without --no-build", program.display());
        }
        let Some(stripped) = &self.stripped else { return Ok(program) };
        let target = stripped.path().join(name);
        let mut command = Command::new("strip");
        command.args(["--strip-debug", "-o"]).arg(&target).arg(&program);
        // Where there is no strip, the image is larger.
        let is_stripped = command.status().is_ok_and(|status| status.success());
        Ok(if is_stripped { target } else { program })
    }
}

/// Builds the programs of images, unless they are those of the last build.
pub(crate) fn build(profile: Profile, images: &[Image], is_built: bool) -> anyhow::Result<Programs> {
    if !is_built && profile == Profile::Dev {
        step("build the programs", || run(compile(profile).args(["--workspace", "--bins"])))?;
        crate::build::static_agent(false)?;
    } else if !is_built {
        let names: BTreeSet<&str> =
            images.iter().filter(|image| image.variant != Variant::Static).map(|image| image.name).collect();
        if !names.is_empty() {
            step(&format!("build the programs with the profile {}", profile.name()), || {
                run(compile(profile).args(names.iter().flat_map(|name| ["--package", name])))
            })?;
        }
        if images.iter().any(|image| image.has_agent || image.variant == Variant::Static) {
            step(&format!("build the static agent with the profile {}", profile.name()), || {
                // Where there is no rustup, cargo says what is missing.
                let _ = Command::new("rustup").args(["target", "add", STATIC_TARGET]).output();
                run(compile(profile).args(["--package", AGENT, "--target", STATIC_TARGET]))
            })?;
        }
    }
    let (target, folder) = (target_dir(), profile.folder());
    let (stripped, compression) = match profile {
        Profile::Dev => {
            let folder = tempfile::tempdir().context("cannot make a folder for programs")?;
            (Some(folder), Compression::None)
        }
        Profile::Dist | Profile::Release => (None, Compression::Gzip),
    };
    let static_folder = target.join(STATIC_TARGET).join(folder);
    Ok(Programs { compression, folder: target.join(folder), static_folder, stripped })
}

/// Cargo, which builds the same bytes in another folder of another user with the profile `dist`.
fn compile(profile: Profile) -> Command {
    let mut command = cargo();
    command.args(["build", "--locked", "--profile", profile.name()]);
    if profile == Profile::Dist {
        let places = places();
        let rust = places.iter().map(|(path, name)| format!("--remap-path-prefix={path}={name}"));
        let c = places.iter().map(|(path, name)| format!("-ffile-prefix-map={path}={name}"));
        command.env("RUSTFLAGS", flags("RUSTFLAGS", rust)).env("CFLAGS", flags("CFLAGS", c));
    }
    command
}

/// Folders whose paths programs would contain otherwise.
fn places() -> Vec<(String, &'static str)> {
    let home = |name: &str| std::env::var_os("HOME").map(|home| Path::new(&home).join(name));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| home(".cargo"));
    let found = [(Some(root()), "/slipway"), (cargo, "/cargo")];
    found.into_iter().filter_map(|(path, name)| Some((path?.to_str()?.to_owned(), name))).collect()
}

/// The flags of the environment, and further ones.
fn flags(variable: &str, further: impl Iterator<Item = String>) -> OsString {
    let mut flags = std::env::var_os(variable).unwrap_or_default();
    for flag in further {
        flags.push(" ");
        flags.push(flag);
    }
    flags
}
