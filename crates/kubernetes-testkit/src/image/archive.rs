//! What is in an image, and the archive of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::tar::{Kind, Writer};
use crate::Error;

const MEDIA_TYPE: &str = "application/vnd.oci.image";
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Users that programs expect to exist.
const BASE_FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n"),
    ("etc/group", "root:x:0:\napp:x:1000:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];
const BASE_FOLDERS: [(&str, u32); 6] =
    [("dev", 0o755), ("proc", 0o755), ("root", 0o700), ("sys", 0o755), ("tmp", 0o1777), ("var/tmp", 0o1777)];

enum Entry {
    File { source: PathBuf, mode: u32 },
    Text(&'static str),
    Link(String),
    Folder(u32),
}

/// An image of one layer, made of files of this machine. The same input makes the same bytes.
pub struct Archive {
    name: String,
    /// By their paths in the image, without the first `/`.
    entries: BTreeMap<String, Entry>,
    config: Value,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Archive").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Archive {
    /// An empty image. Pods name it by `name` with a tag, e.g. `registry.local/trainer:1`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), entries: BTreeMap::new(), config: json!({}) }
    }

    /// Adds a file of this machine.
    ///
    /// # Errors
    /// There is no such file.
    pub fn file(&mut self, path: &str, source: &Path) -> Result<&mut Self, Error> {
        // A link of this machine may point to what the image lacks.
        let source = source.canonicalize().map_err(Error::file("cannot find", source))?;
        let facts = source.metadata().map_err(Error::file("cannot examine", &source))?;
        let mode = if facts.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        self.put(path, Entry::File { source, mode });
        Ok(self)
    }

    /// Adds a folder of this machine with everything in it.
    ///
    /// # Errors
    /// There is no such folder, or it cannot be read.
    pub fn folder(&mut self, path: &str, source: &Path) -> Result<&mut Self, Error> {
        self.put(path, Entry::Folder(0o755));
        let entries = std::fs::read_dir(source).map_err(Error::file("cannot list", source))?;
        for entry in entries {
            let inner = entry.map_err(Error::file("cannot list", source))?.path();
            let Some(name) = inner.file_name().and_then(|name| name.to_str()) else { continue };
            let path = format!("{path}/{name}");
            match std::fs::read_link(&inner) {
                Ok(target) if target.is_relative() => {
                    self.symlink(&path, &target.to_string_lossy());
                }
                _ if inner.is_dir() => {
                    self.folder(&path, &inner)?;
                }
                // Sockets, pipes and links to nowhere are left out.
                _ if inner.is_file() => {
                    self.file(&path, &inner)?;
                }
                _ => {}
            }
        }
        Ok(self)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.put(path, Entry::Link(target.to_owned()));
        self
    }

    /// Adds users and folders that programs expect to exist.
    pub fn base_files(&mut self) -> &mut Self {
        for (path, text) in BASE_FILES {
            self.put(path, Entry::Text(text));
        }
        for (path, mode) in BASE_FOLDERS {
            self.put(path, Entry::Folder(mode));
        }
        self
    }

    /// Adds the shared libraries of all programs and libraries in the image, at their paths on this machine.
    ///
    /// # Errors
    /// `ldd` cannot be run.
    pub fn shared_libraries(&mut self) -> Result<&mut Self, Error> {
        let programs: Vec<PathBuf> = self
            .entries
            .values()
            .filter_map(
                |entry| if let Entry::File { source, .. } = entry { Some(source.clone()) } else { None },
            )
            .filter(|source| is_elf(source))
            .collect();
        if programs.is_empty() {
            return Ok(self);
        }
        let listed = Command::new("ldd")
            .args(&programs)
            .output()
            .map_err(Error::file("cannot run", "ldd".as_ref()))?;
        for library in libraries(&String::from_utf8_lossy(&listed.stdout)) {
            self.file(&library, Path::new(&library))?;
        }
        Ok(self)
    }

    /// Sets the image's configuration in the terms of the OCI specification: `Entrypoint`, `Cmd`, `Env`,
    /// `User`, `WorkingDir`.
    pub fn configure(&mut self, config: Value) -> &mut Self {
        self.config = config;
        self
    }

    fn put(&mut self, path: &str, entry: Entry) {
        self.entries.insert(path.trim_matches('/').to_owned(), entry);
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// A file cannot be read, or the archive cannot be written.
    pub fn write(&self, output: impl Write) -> Result<(), Error> {
        let failed =
            |error: std::io::Error| Error::Image { image: self.name.clone(), reason: error.to_string() };
        self.try_write(output).map_err(failed)
    }

    fn try_write(&self, output: impl Write) -> std::io::Result<()> {
        let mut layer = tempfile::tempfile()?;
        self.write_layer(&mut layer)?;
        let bytes = layer.stream_position()?;
        layer.seek(SeekFrom::Start(0))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = layer.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
        layer.seek(SeekFrom::Start(0))?;
        let digest = hex::encode(hasher.finalize());
        let config = self.image_config(&digest).to_string();
        let manifest = manifest(&config, &digest, bytes).to_string();
        let mut archive = Writer::new(output);
        let mut put = |name: &str, bytes: u64, content: &mut dyn Read| {
            archive.entry(name, 0o644, &Kind::File(bytes), content)
        };
        let small = [
            ("oci-layout".to_owned(), LAYOUT.to_owned()),
            ("index.json".to_owned(), self.index(&manifest).to_string()),
            (blob(&sha256(&config)), config),
            (blob(&sha256(&manifest)), manifest),
        ];
        for (name, text) in &small {
            put(name, text.len() as u64, &mut text.as_bytes())?;
        }
        put(&blob(&digest), bytes, &mut layer)?;
        archive.finish()?.flush()
    }

    /// Folders come before what is in them.
    fn write_layer(&self, output: &mut File) -> std::io::Result<()> {
        let mut writer = Writer::new(output);
        let mut folders: BTreeMap<&str, u32> = BTreeMap::new();
        for (path, entry) in &self.entries {
            let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
            for parent in parents {
                folders.entry(parent).or_insert(0o755);
            }
            if let Entry::Folder(mode) = entry {
                folders.insert(path, *mode);
            }
        }
        for (path, mode) in folders {
            writer.entry(path, mode, &Kind::Folder, &mut std::io::empty())?;
        }
        for (path, entry) in &self.entries {
            match entry {
                Entry::File { source, mode } => {
                    let mut file = File::open(source)?;
                    let bytes = file.metadata()?.len();
                    writer.entry(path, *mode, &Kind::File(bytes), &mut file)?;
                }
                Entry::Text(text) => {
                    let kind = Kind::File(text.len() as u64);
                    writer.entry(path, 0o644, &kind, &mut Cursor::new(text))?;
                }
                Entry::Link(target) => {
                    writer.entry(path, 0o777, &Kind::Link(target), &mut std::io::empty())?;
                }
                Entry::Folder(_) => {}
            }
        }
        writer.finish().map(drop)
    }

    fn image_config(&self, layer: &str) -> Value {
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        })
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
}

fn manifest(config: &str, layer: &str, layer_bytes: u64) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": format!("{MEDIA_TYPE}.manifest.v1+json"),
        "config": descriptor("config.v1+json", &sha256(config), config.len() as u64),
        // Importing is faster without compression.
        "layers": [descriptor("layer.v1.tar", layer, layer_bytes)],
    })
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

/// In the terms of Go, which are those of the specification.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn is_elf(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"\x7fELF"
}

/// Paths in the output of `ldd`: `libc.so.6 => /lib/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn libraries(listed: &str) -> Vec<String> {
    let path = |line: &str| {
        let before = line.trim().split_once(" (0x")?.0;
        let path = before.rsplit(" => ").next()?;
        path.starts_with('/').then(|| path.to_owned())
    };
    let mut paths: Vec<String> = listed.lines().filter_map(path).collect();
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_paths_that_ldd_found() {
        let listed = "/bin/a:\n\tlinux-vdso.so.1 (0x7ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n\tlibgone.so => not found\n/bin/b:\n\
                      \tlibc.so.6 => /lib/libc.so.6 (0x7f)\n";
        assert_eq!(libraries(listed), ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn the_same_input_makes_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("run");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        let written = |name: &str| {
            let mut archive = Archive::new(name);
            archive.base_files().file("/app/run", &script).unwrap().symlink("/run", "app/run");
            archive.configure(json!({ "Cmd": ["/run"] }));
            let mut bytes = Vec::new();
            archive.write(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(written("registry.local/a:1"), written("registry.local/a:1"));
        assert_ne!(written("registry.local/a:1"), written("registry.local/b:1"));
    }

    #[test]
    fn a_file_that_does_not_exist_is_named() {
        let error = Archive::new("a:1").file("/x", Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(error.contains("/no/such/file"), "{error}");
    }
}
