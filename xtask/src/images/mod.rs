//! `cargo xtask images`: OCI images of the services, the command line and the agent, without a container
//! engine (docs/development/images.md).

mod assemble;
mod base;
mod catalog;
mod deliver;
mod programs;
mod sbom;
mod sizes;
mod source;
mod wheels;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use catalog::Image;
pub(crate) use programs::Profile;
use slipway_oci_image::SealedLayer;
use source::Source;

use crate::build::root;
use crate::progress::step;

/// Arguments of `cargo xtask images`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Cargo profile of the programs. Images for others are made with `dist`.
    #[arg(long, value_enum, default_value = "dist")]
    pub(crate) profile: Profile,
    /// Makes these images only, e.g. `slipway-registry` or `slipway-serving-onnx-cpu`. [default: all]
    #[arg(long, num_args = 1.., value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Folder of the archives. [default: target/images]
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Tag of the images. [default: the version of the workspace]
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,
    /// Container engine of this machine that the images are loaded into.
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) load: Engine,
    /// Registry that the images are pushed to with skopeo, e.g. `registry.example.org/team`.
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) push: Option<String>,
    /// Uses the programs of the last build of this profile.
    #[arg(long)]
    pub(crate) no_build: bool,
}

/// A container engine of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Podman.
    Podman,
    /// Docker.
    Docker,
    /// None: the images are archives only.
    None,
}

/// An image that was made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) image: Image,
    /// Name and tag.
    pub(crate) reference: String,
    pub(crate) archive: PathBuf,
    pub(crate) digest: String,
    /// Compressed size of the layers, in bytes.
    pub(crate) layer_bytes: u64,
    /// Size of the image's own programs, in bytes.
    pub(crate) program_bytes: u64,
}

/// Builds the programs, makes the images, and loads or pushes them.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    options.push.as_deref().map_or(Ok(()), deliver::check)?;
    let made = make(options)?;
    for one in &made {
        deliver::load(options.load, one)?;
        if let Some(registry) = &options.push {
            deliver::push(registry, one)?;
        }
    }
    sizes::print(&made);
    sizes::check(options.profile, &made)
}

/// Makes some images for a test.
pub(crate) fn for_test(
    profile: Profile,
    no_build: bool,
    titles: &[&str],
    folder: &Path,
) -> anyhow::Result<Vec<Made>> {
    make(&Options {
        profile,
        only: titles.iter().map(|title| (*title).to_owned()).collect(),
        output: Some(folder.to_owned()),
        tag: None,
        load: Engine::None,
        push: None,
        no_build,
    })
}

/// The base layer.
pub(crate) fn base_layer() -> anyhow::Result<Arc<SealedLayer>> {
    Ok(base::layer()?.layer)
}

fn make(options: &Options) -> anyhow::Result<Vec<Made>> {
    let images = catalog::selected(&options.only)?;
    let programs = programs::build(options.profile, &images, options.no_build)?;
    let source = Source::of_checkout()?;
    let folder = options.output.clone().unwrap_or_else(|| root().join("target/images"));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let tag = options.tag.as_deref().unwrap_or(&source.version);
    let base = step("the base layer, of pinned Debian packages", base::layer)?;
    let one = |image: &Image| {
        step(&format!("image {}", image.title()), || {
            let (programs, base, source) = (&programs, &base, &source);
            write(&folder, &assemble::Parts { image: *image, programs, base, source, tag })
        })
    };
    images.iter().map(one).collect()
}

/// Writes the archive of an image, and its bill of materials next to it.
fn write(folder: &Path, parts: &assemble::Parts<'_>) -> anyhow::Result<Made> {
    let assembled = assemble::image(parts)?;
    let title = parts.image.title();
    let archive = folder.join(format!("{title}.tar"));
    let file = File::create(&archive).with_context(|| format!("cannot make {}", archive.display()))?;
    let written = assembled.archive.write(file)?;
    let bill = folder.join(format!("{title}.cdx.json"));
    std::fs::write(&bill, assembled.bill).with_context(|| format!("cannot write {}", bill.display()))?;
    Ok(Made {
        image: parts.image,
        reference: assembled.reference,
        archive,
        digest: written.digest,
        layer_bytes: written.layer_bytes,
        program_bytes: assembled.program_bytes,
    })
}

#[cfg(test)]
mod tests;
