//! Manifests and indexes of OCI's image specification, and of Docker before it.

use std::collections::HashMap;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use slipway_domain::registry::new_artifact_path;

use super::reference::sha256_of;

/// What a registry may answer with for a manifest.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";
const MAX_LAYERS: usize = 10_000;
/// Of the layers of images, only this folder is the model.
const MODELS: &str = "models/";
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Name of a layer that is a file: of ORAS and most others, and of ModelPack.
const NAMES: [&str; 2] = ["org.opencontainers.image.title", "org.cncf.model.filepath"];
/// Marks an archive of ORAS that has a name.
const UNPACK: &str = "io.deis.oras.content.unpack";
/// Stands for a part that there is none of.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// An index or a manifest.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// The content of a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(super) digest: String,
    pub(crate) size_bytes: u64,
}

#[cfg(test)]
impl Blob {
    /// Any one.
    pub(crate) fn of_test() -> Self {
        Self { digest: String::new(), size_bytes: 0 }
    }
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layer {
    /// One file.
    File { path: String, blob: Blob },
    /// A tar archive of files.
    Archive(Archive),
}

/// A tar archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    pub(crate) blob: Blob,
    pub(crate) is_gzip: bool,
    /// The folder of it that is imported; empty: all of it is.
    pub(crate) folder: &'static str,
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(bytes).context("the registry answers with something else than a manifest")
    }

    /// Of an index, the digest of the manifest that is imported: the only one, or that of linux/amd64.
    pub(super) fn of_index(&self) -> anyhow::Result<Option<&str>> {
        let Some(listed) = &self.manifests else { return Ok(None) };
        // Attestations of builders are of the platform `unknown`.
        let is_content = |platform: &Platform| platform.os != "unknown";
        let candidates: Vec<&Descriptor> =
            listed.iter().filter(|listed| listed.platform.as_ref().is_none_or(is_content)).collect();
        let is_ours = |listed: &&&Descriptor| {
            let platform = listed.platform.as_ref();
            platform.is_some_and(|platform| platform.os == "linux" && platform.architecture == "amd64")
        };
        let chosen = match &candidates[..] {
            [only] => Some(*only),
            several => several.iter().find(is_ours).copied(),
        };
        let count = candidates.len();
        let chosen =
            chosen.with_context(|| format!("the index has {count} manifests, and none is of linux/amd64"))?;
        ensure!(sha256_of(&chosen.digest).is_some(), "the index names the digest `{}`", chosen.digest);
        Ok(Some(&chosen.digest))
    }

    /// The layers of a manifest.
    pub(super) fn layers(&self) -> anyhow::Result<Vec<Layer>> {
        ensure!(self.layers.len() <= MAX_LAYERS, "the manifest has more than {MAX_LAYERS} layers");
        let config = self.config.as_ref().map(|config| config.media_type.as_str()).unwrap_or_default();
        let folder = if IMAGE_CONFIGS.contains(&config) { MODELS } else { "" };
        let layers = self.layers.iter().filter(|layer| layer.media_type != EMPTY);
        let layers: Vec<Layer> = layers.map(|layer| layer.parsed(folder)).collect::<anyhow::Result<_>>()?;
        ensure!(!layers.is_empty(), "the manifest has no layers");
        Ok(layers)
    }
}

impl Descriptor {
    fn parsed(&self, folder: &'static str) -> anyhow::Result<Layer> {
        let Self { media_type, digest, size, .. } = self;
        ensure!(sha256_of(digest).is_some(), "expected a layer with a digest sha256:…, got `{digest}`");
        let blob = Blob { digest: digest.clone(), size_bytes: *size };
        let annotation = |name: &str| self.annotations.as_ref()?.get(name);
        let title = NAMES.iter().find_map(|name| annotation(name));
        let is_packed = annotation(UNPACK).is_some_and(|value| value == "true")
            || media_type.starts_with("application/vnd.cncf.model.") && !media_type.ends_with(".raw");
        if let Some(title) = title.filter(|_| !is_packed) {
            let path = new_artifact_path(title)
                .map_err(|invalid| anyhow::anyhow!("layer {digest} is the file `{title}`: {invalid}"))?;
            return Ok(Layer::File { path, blob });
        }
        let is_gzip = ["tar+gzip", "tar.gzip", "tar.gz"].iter().any(|end| media_type.ends_with(end));
        if !is_gzip && !media_type.ends_with("tar") {
            bail!(
                "layer {digest} of type `{media_type}` has no annotation {}, and is no archive of type tar \
                 or tar+gzip",
                NAMES[0]
            );
        }
        Ok(Layer::Archive(Archive { blob, is_gzip, folder }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(number: u8) -> String {
        format!("sha256:{}", hex::encode([number; 32]))
    }

    fn document(value: Value) -> Document {
        Document::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn of_an_index_the_only_manifest_or_that_of_linux_is_taken() {
        let listed = |number: u8, os: &str, architecture: &str| {
            let platform = json!({"os": os, "architecture": architecture});
            json!({"digest": digest(number), "platform": platform})
        };
        let arm = listed(1, "linux", "arm64");
        let amd = listed(2, "linux", "amd64");
        let attestation = listed(3, "unknown", "unknown");
        let of = |manifests: Value| {
            let document = document(json!({ "manifests": manifests }));
            document.of_index().map(|found| found.map(str::to_owned)).map_err(|error| error.to_string())
        };
        assert_eq!(of(json!([arm, amd])), Ok(Some(digest(2))));
        assert_eq!(of(json!([arm, attestation])), Ok(Some(digest(1))));
        assert_eq!(of(json!([{"digest": digest(4)}])), Ok(Some(digest(4))));
        let refused = of(json!([arm, arm])).unwrap_err();
        assert!(refused.contains("2 manifests, and none is of linux/amd64"), "{refused}");
        assert!(of(json!([])).is_err());
        assert_eq!(document(json!({"layers": []})).of_index().unwrap(), None);
    }

    #[test]
    fn layers_are_files_by_their_titles_and_archives() {
        let layers = |config: &str, layers: Value| {
            let config = json!({"mediaType": config, "digest": digest(9)});
            let document = document(json!({"config": config, "layers": layers}));
            document.layers().map_err(|error| error.to_string())
        };
        let oras = json!([
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(1), "size": 7,
                "annotations": {"org.opencontainers.image.title": "data/model.onnx"}},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(2), "size": 8,
                "annotations": {"org.opencontainers.image.title": "tokens", UNPACK: "true"}},
            {"mediaType": EMPTY, "digest": digest(3), "size": 2},
        ]);
        let file = |number: u8, size_bytes: u64| Blob { digest: digest(number), size_bytes };
        let archive = |number, size_bytes, is_gzip, folder| {
            Layer::Archive(Archive { blob: file(number, size_bytes), is_gzip, folder })
        };
        let titled = Layer::File { path: "data/model.onnx".to_owned(), blob: file(1, 7) };
        assert_eq!(layers(EMPTY, oras), Ok(vec![titled, archive(2, 8, true, "")]));
        let docker = json!([{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "digest": digest(1), "size": 1}]);
        assert_eq!(layers(IMAGE_CONFIGS[1], docker), Ok(vec![archive(1, 1, true, "models/")]));
        let kit = json!([{"mediaType": "application/vnd.kitops.modelkit.model.v1.tar", "digest": digest(1)}]);
        assert_eq!(
            layers("application/vnd.kitops.modelkit.config.v1+json", kit),
            Ok(vec![archive(1, 0, false, "")])
        );
        for (layer, text) in [
            (json!({"mediaType": "x/tar+zstd", "digest": digest(1)}), "of type `x/tar+zstd`"),
            (json!({"mediaType": "x/tar", "digest": "sha512:ab"}), "got `sha512:ab`"),
            (
                json!({"mediaType": "x/y", "digest": digest(1),
                "annotations": {"org.opencontainers.image.title": "../m"}}),
                "is the file `../m`",
            ),
        ] {
            let refused = layers(EMPTY, json!([layer])).unwrap_err();
            assert!(refused.contains(text), "{refused}");
        }
        assert!(layers(EMPTY, json!([])).unwrap_err().contains("no layers"));
    }
}
