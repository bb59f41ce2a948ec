//! What is in one layer of an image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::seal::{Compression, SealedLayer};
use crate::tar::{Entry as TarEntry, Kind, Writer};
use crate::{Error, libraries};

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
    Bytes { bytes: Vec<u8>, mode: u32 },
    Link(String),
    Folder { mode: u32, owner: u32 },
}

/// What is in one layer: files of this machine and generated ones, by their paths in the image.
#[derive(Default)]
pub struct Layer {
    /// Paths without the first `/`.
    entries: BTreeMap<String, Entry>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Layer").field("entries", &self.entries.len()).finish()
    }
}

impl Layer {
    /// Adds a file of this machine.
    ///
    /// # Errors
    /// There is no such file.
    pub fn file(&mut self, path: &str, source: &Path) -> Result<&mut Self, Error> {
        // A link of this machine may point to what the image lacks.
        let source = source.canonicalize().map_err(Error::file("cannot find", source))?;
        let facts = source.metadata().map_err(Error::file("cannot examine", &source))?;
        let mode = if facts.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        Ok(self.put(path, Entry::File { source, mode }))
    }

    /// Adds a folder of this machine with everything in it.
    ///
    /// # Errors
    /// There is no such folder, or it cannot be read.
    pub fn folder(&mut self, path: &str, source: &Path) -> Result<&mut Self, Error> {
        self.put(path, Entry::Folder { mode: 0o755, owner: 0 });
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

    /// Adds an empty folder of the user and group with this number.
    pub fn owned_folder(&mut self, path: &str, mode: u32, owner: u32) -> &mut Self {
        self.put(path, Entry::Folder { mode, owner })
    }

    /// Adds a file with this content.
    pub fn bytes(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.put(path, Entry::Bytes { bytes: bytes.into(), mode })
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.put(path, Entry::Link(target.to_owned()))
    }

    /// Adds users and folders that programs expect to exist.
    pub fn base_files(&mut self) -> &mut Self {
        for (path, text) in BASE_FILES {
            self.bytes(path, 0o644, text);
        }
        for (path, mode) in BASE_FOLDERS {
            self.owned_folder(path, mode, 0);
        }
        self
    }

    /// Adds the shared libraries of all programs and libraries in the layer, at their paths on this machine.
    ///
    /// # Errors
    /// `ldd` cannot be run.
    pub fn shared_libraries(&mut self) -> Result<&mut Self, Error> {
        let sources = self.entries.values().filter_map(|entry| match entry {
            Entry::File { source, .. } => Some(source.clone()),
            _ => None,
        });
        let programs: Vec<PathBuf> = sources.filter(|source| libraries::is_elf(source)).collect();
        for library in libraries::of(&programs)? {
            // What is in the layer already stays as it is.
            if !self.entries.contains_key(library.trim_matches('/')) {
                self.file(&library, Path::new(&library))?;
            }
        }
        Ok(self)
    }

    fn put(&mut self, path: &str, entry: Entry) -> &mut Self {
        self.entries.insert(path.trim_matches('/').to_owned(), entry);
        self
    }

    /// Makes the blob.
    ///
    /// # Errors
    /// A file cannot be read, or the disk is full.
    pub fn seal(&self, compression: Compression) -> std::io::Result<SealedLayer> {
        SealedLayer::of(compression, |output| self.write(output))
    }

    /// Folders come before what is in them.
    fn write(&self, output: &mut dyn Write) -> std::io::Result<()> {
        let mut writer = Writer::new(output);
        for (path, (mode, owner)) in self.folders() {
            writer.entry(&TarEntry { name: path, mode, owner, kind: Kind::Folder }, &mut std::io::empty())?;
        }
        for (path, entry) in &self.entries {
            let header = |mode: u32, kind| TarEntry { name: path, mode, owner: 0, kind };
            match entry {
                Entry::File { source, mode } => {
                    let mut file = File::open(source)?;
                    let bytes = file.metadata()?.len();
                    writer.entry(&header(*mode, Kind::File(bytes)), &mut file)?;
                }
                Entry::Bytes { bytes, mode } => {
                    let kind = Kind::File(bytes.len() as u64);
                    writer.entry(&header(*mode, kind), &mut bytes.as_slice())?;
                }
                Entry::Link(target) => {
                    writer.entry(&header(0o777, Kind::Link(target)), &mut std::io::empty())?;
                }
                Entry::Folder { .. } => {}
            }
        }
        writer.finish().map(drop)
    }

    /// All folders, also those that only have something in them, with mode and owner.
    fn folders(&self) -> BTreeMap<&str, (u32, u32)> {
        let mut folders: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for (path, entry) in &self.entries {
            for parent in path.match_indices('/').map(|(end, _)| &path[..end]) {
                folders.entry(parent).or_insert((0o755, 0));
            }
            if let Entry::Folder { mode, owner } = entry {
                folders.insert(path, (*mode, *owner));
            }
        }
        folders
    }
}
