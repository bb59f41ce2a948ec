//! An image, and the archive of it.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::layer::Layer;
use crate::seal::{Compression, SealedLayer};
use crate::tar::{Entry, Kind, Writer};

const MEDIA_TYPE: &str = "application/vnd.oci.image";
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image of files of this machine. The same input makes the same bytes.
#[derive(Debug)]
pub struct Archive {
    name: String,
    /// From the lowest one.
    below: Vec<Arc<SealedLayer>>,
    top: Layer,
    compression: Compression,
    config: Value,
    annotations: Map<String, Value>,
    created: Option<String>,
}

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Digest of its manifest, by which registries name it: `sha256:…`.
    pub digest: String,
    /// Size of its layers as they are stored and transferred, in bytes.
    pub layer_bytes: u64,
}

impl Archive {
    /// An empty image. It is named by `name` with a tag, e.g. `registry.local/trainer:1`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            below: Vec::new(),
            top: Layer::default(),
            compression: Compression::default(),
            config: json!({}),
            annotations: Map::new(),
            created: None,
        }
    }

    /// Puts a layer, which other images may share, above those that were added before.
    pub fn layer(&mut self, layer: Arc<SealedLayer>) -> &mut Self {
        self.below.push(layer);
        self
    }

    /// The last layer, which belongs to this image alone.
    pub const fn top(&mut self) -> &mut Layer {
        &mut self.top
    }

    /// Adds a file of this machine: [`Layer::file`].
    ///
    /// # Errors
    /// There is no such file.
    pub fn file(&mut self, path: &str, source: &Path) -> Result<&mut Self, Error> {
        self.top.file(path, source)?;
        Ok(self)
    }

    /// Adds a folder of this machine with everything in it: [`Layer::folder`].
    ///
    /// # Errors
    /// There is no such folder, or it cannot be read.
    pub fn folder(&mut self, path: &str, source: &Path) -> Result<&mut Self, Error> {
        self.top.folder(path, source)?;
        Ok(self)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.top.symlink(path, target);
        self
    }

    /// Adds users and folders that programs expect to exist.
    pub fn base_files(&mut self) -> &mut Self {
        self.top.base_files();
        self
    }

    /// Adds the shared libraries of the programs in the last layer: [`Layer::shared_libraries`].
    ///
    /// # Errors
    /// `ldd` cannot be run.
    pub fn shared_libraries(&mut self) -> Result<&mut Self, Error> {
        self.top.shared_libraries()?;
        Ok(self)
    }

    /// Sets the image's configuration in the terms of the OCI specification: `Entrypoint`, `Cmd`, `Env`,
    /// `User`, `WorkingDir`, `Labels`.
    pub fn configure(&mut self, config: Value) -> &mut Self {
        self.config = config;
        self
    }

    /// Adds an annotation to the manifest.
    pub fn annotate(&mut self, key: &str, value: &str) -> &mut Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// Sets the time of creation, as RFC 3339. [default: none]
    pub fn created(&mut self, time: &str) -> &mut Self {
        self.created = Some(time.to_owned());
        self
    }

    /// Sets how the last layer is compressed. [default: not at all]
    pub const fn compress(&mut self, compression: Compression) -> &mut Self {
        self.compression = compression;
        self
    }

    /// Writes the archive: an OCI image layout, which `docker load` reads as well.
    ///
    /// # Errors
    /// A file cannot be read, or the archive cannot be written.
    pub fn write(&self, output: impl Write) -> Result<Written, Error> {
        self.try_write(output).map_err(|source| Error::Image { image: self.name.clone(), source })
    }

    fn try_write(&self, output: impl Write) -> std::io::Result<Written> {
        let top = self.top.seal(self.compression)?;
        let layers: Vec<&SealedLayer> = self.below.iter().map(AsRef::as_ref).chain([&top]).collect();
        let config = self.image_config(&layers).to_string();
        let manifest = self.manifest(&config, &layers).to_string();
        let mut archive = Writer::new(output);
        let mut put = |name: &str, bytes: u64, content: &mut dyn Read| {
            archive.entry(&Entry { name, mode: 0o644, owner: 0, kind: Kind::File(bytes) }, content)
        };
        let small = [
            ("oci-layout".to_owned(), LAYOUT.to_owned()),
            ("index.json".to_owned(), self.index(&manifest).to_string()),
            ("manifest.json".to_owned(), self.for_docker(&config, &layers).to_string()),
            (blob(&sha256(&config)), config),
            (blob(&sha256(&manifest)), manifest.clone()),
        ];
        for (name, text) in &small {
            put(name, text.len() as u64, &mut text.as_bytes())?;
        }
        for layer in &layers {
            put(&blob(&layer.digest), layer.bytes(), &mut layer.reader())?;
        }
        archive.finish()?.flush()?;
        let digest = format!("sha256:{}", sha256(&manifest));
        Ok(Written { digest, layer_bytes: layers.iter().map(|layer| layer.bytes()).sum() })
    }

    fn image_config(&self, layers: &[&SealedLayer]) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
        let mut config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        if let Some(created) = &self.created {
            config["created"] = created.as_str().into();
        }
        config
    }

    fn manifest(&self, config: &str, layers: &[&SealedLayer]) -> Value {
        let described =
            |layer: &&SealedLayer| descriptor(layer.compression.media_type(), &layer.digest, layer.bytes());
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": format!("{MEDIA_TYPE}.manifest.v1+json"),
            "config": descriptor("config.v1+json", &sha256(config), config.len() as u64),
            "layers": layers.iter().map(described).collect::<Vec<Value>>(),
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = self.annotations.clone().into();
        }
        manifest
    }

    fn index(&self, manifest: &str) -> Value {
        let tag = self.name.rsplit(':').next().unwrap_or_default();
        let mut described = descriptor("manifest.v1+json", &sha256(manifest), manifest.len() as u64);
        described["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        described["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": tag,
        });
        json!({
            "schemaVersion": 2,
            "mediaType": format!("{MEDIA_TYPE}.index.v1+json"),
            "manifests": [described],
        })
    }

    /// The index of archives before the OCI layout.
    fn for_docker(&self, config: &str, layers: &[&SealedLayer]) -> Value {
        let blobs: Vec<String> = layers.iter().map(|layer| blob(&layer.digest)).collect();
        json!([{ "Config": blob(&sha256(config)), "RepoTags": [self.name], "Layers": blobs }])
    }
}

fn descriptor(kind: &str, digest: &str, bytes: u64) -> Value {
    let media_type = format!("{MEDIA_TYPE}.{kind}");
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes })
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

/// The architecture of this machine in the terms of Go, which are those of the specification.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn script(folder: &Path) -> std::path::PathBuf {
        let script = folder.join("run");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        script
    }

    #[test]
    fn the_same_input_makes_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let script = script(folder.path());
        let mut base = Layer::default();
        let base = Arc::new(base.base_files().seal(Compression::Gzip).unwrap());
        let written = |name: &str| {
            let mut archive = Archive::new(name);
            archive.layer(Arc::clone(&base)).file("/app/run", &script).unwrap().symlink("/run", "app/run");
            archive.configure(json!({ "Cmd": ["/run"] })).compress(Compression::Gzip);
            let mut bytes = Vec::new();
            let written = archive.write(&mut bytes).unwrap();
            assert!(written.layer_bytes > base.bytes());
            (bytes, written)
        };
        // The time of a file is not part of it.
        let first = written("registry.local/a:1");
        let file = std::fs::File::options().write(true).open(&script).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(first, written("registry.local/a:1"));
        let other = written("registry.local/b:1");
        assert_ne!(first.0, other.0);
        assert_eq!(first.1.digest, other.1.digest, "the name is not part of the image");
    }

    #[test]
    fn blobs_have_the_digests_that_the_manifest_names_and_folders_their_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        let mut archive = Archive::new("a:1");
        archive.top().owned_folder("/data", 0o750, 65532).bytes("/data/x", 0o644, "x");
        archive.annotate("key", "value").compress(Compression::Gzip);
        let written = archive.write(std::fs::File::create(&path).unwrap()).unwrap();
        let tar = |arguments: &[&str], at: &Path| {
            let output = Command::new("tar").args(arguments).arg(at).current_dir(&folder).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        tar(&["--extract", "--file"], &path);
        let read = |digest: &str| {
            let digest = digest.strip_prefix("sha256:").unwrap();
            let bytes = std::fs::read(folder.path().join(blob(digest))).unwrap();
            assert_eq!(hex::encode(Sha256::digest(&bytes)), digest);
            bytes
        };
        let manifest: Value = serde_json::from_slice(&read(&written.digest)).unwrap();
        assert_eq!(manifest["annotations"]["key"], "value");
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        assert_eq!(read(layer).len() as u64, written.layer_bytes);
        let listed = tar(
            &["--list", "--verbose", "--gzip", "--numeric-owner", "--file"],
            &folder.path().join(blob(layer.strip_prefix("sha256:").unwrap())),
        );
        assert!(listed.starts_with("drwxr-x--- 65532/65532 "), "{listed}");
    }

    #[test]
    fn a_file_that_does_not_exist_is_named() {
        let error = Archive::new("a:1").file("/x", Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(error.contains("/no/such/file"), "{error}");
    }
}
