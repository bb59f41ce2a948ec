//! ONNX Runtime for images, from the pinned wheels of the toolbox.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use slipway_oci_image::Layer;
use slipway_toolbox::{ONNXRUNTIME, Toolbox, Wheel};

use super::catalog::Variant;

/// Folder of the libraries.
const FOLDER: &str = "/usr/lib/onnxruntime";
/// Files of the wheel that have its licence.
const LICENCES: [&str; 3] = ["LICENSE", "Privacy.md", "ThirdPartyNotices.txt"];

/// A wheel whose libraries are in an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) sha256: &'static str,
}

/// Adds the libraries of a variant. Returns their wheels and the environment variables that name them.
pub(crate) fn add(layer: &mut Layer, variant: Variant) -> anyhow::Result<(Vec<Origin>, Vec<String>)> {
    match variant {
        Variant::Plain | Variant::Static => Ok((Vec::new(), Vec::new())),
        Variant::OnnxCpu => {
            let library = fetched(&ONNXRUNTIME)?;
            let name =
                library.file_name().and_then(|name| name.to_str()).context("a library without a name")?;
            let target = format!("{FOLDER}/{name}");
            layer.file(&target, &library)?;
            add_licences(layer, &library)?;
            Ok((vec![origin(&ONNXRUNTIME)?], vec![format!("SLIPWAY_ONNXRUNTIME_LIB={target}")]))
        }
    }
}

/// The library of a wheel. One of this machine would be another one than the pinned one.
fn fetched(wheel: &Wheel) -> anyhow::Result<PathBuf> {
    if std::env::var_os(wheel.variable).is_some_and(|path| !path.is_empty()) {
        bail!("{} is set: unset it, since images have the pinned library", wheel.variable);
    }
    let toolbox = Toolbox::from_env()?;
    Ok(toolbox.ensure(wheel, &mut |message: &str| eprintln!("    {message}"))?)
}

/// `library` lies in the folder `capi` of the package, and the licences next to that folder.
fn add_licences(layer: &mut Layer, library: &std::path::Path) -> anyhow::Result<()> {
    let package = library.ancestors().nth(2).context("a library without a package")?;
    for name in LICENCES {
        let source = package.join(name);
        if source.is_file() {
            layer.file(&format!("/usr/share/doc/onnxruntime/{name}"), &source)?;
        }
    }
    Ok(())
}

fn origin(wheel: &Wheel) -> anyhow::Result<Origin> {
    let file = wheel.files.iter().find(|file| file.arch == std::env::consts::ARCH);
    let file = file.with_context(|| format!("no wheel of {} for this architecture", wheel.name))?;
    Ok(Origin { name: wheel.name, version: wheel.version, sha256: file.sha256 })
}
