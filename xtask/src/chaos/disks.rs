//! Small file systems for the nodes of NATS and for S3, which can be filled. They are mounted in a mount
//! namespace of the harness: they are gone when its last process is.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::fcntl::posix_fallocate;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;

use super::faults::{NATS_NODES, Part, Server};
use super::servers::NATS_FOLDER;

/// What a run of half an hour writes fits in several times. More takes longer to fill.
const SIZE: &str = "size=256m,mode=0755";
const CHUNK_BYTES: usize = 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Disks {
    dir: PathBuf,
    /// Why no disk can be filled.
    missing: Option<String>,
}

/// Parts that have a disk of their own.
fn parts() -> impl Iterator<Item = Part> {
    (0..NATS_NODES).map(Part::Node).chain([Part::Server(Server::S3)])
}

impl Disks {
    /// Mounts them; where that is not allowed, no disk is filled. Threads that started before do not see
    /// them.
    pub(super) fn mount(dir: &Path) -> anyhow::Result<Self> {
        let mut disks = Self { dir: dir.to_owned(), missing: None };
        for part in parts() {
            std::fs::create_dir_all(disks.folder(part))?;
        }
        let mounted = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            parts().try_for_each(|part| {
                mount(Some("tmpfs"), &disks.folder(part), Some("tmpfs"), MsFlags::empty(), Some(SIZE))
            })
        });
        disks.missing = mounted.err().map(|error| format!("a file system cannot be mounted: {error}"));
        Ok(disks)
    }

    /// Why no disk can be filled, where none can.
    pub(super) fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Folder of the part's data.
    fn folder(&self, part: Part) -> PathBuf {
        match part {
            Part::Node(number) => self.dir.join(NATS_FOLDER).join(format!("node-{number}")),
            _ => self.dir.join("s3"),
        }
    }

    fn filler(&self, part: Part) -> PathBuf {
        self.folder(part).join("filler")
    }

    /// Fills the disk of a part to the last byte.
    pub(super) fn fill(&self, part: Part) -> anyhow::Result<()> {
        let path = self.filler(part);
        let mut file = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
        // Most of it at one go.
        let free = statvfs(&path).map(|about| about.blocks_available() * about.fragment_size())?;
        let _ = posix_fallocate(&file, 0, free.cast_signed());
        file.seek(SeekFrom::End(0))?;
        let mut chunk = vec![0u8; CHUNK_BYTES];
        // Halves of what no longer fits, down to a byte.
        while !chunk.is_empty() {
            if file.write_all(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn free(&self, part: Part) {
        let _ = std::fs::remove_file(self.filler(part));
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        if self.missing.is_none() {
            for part in parts() {
                let _ = umount2(&self.folder(part), MntFlags::MNT_DETACH);
            }
        }
    }
}
