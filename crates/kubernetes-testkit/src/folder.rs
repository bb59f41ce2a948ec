//! The folder of a cluster: everything that it writes, and the lock that says whether it is in use.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::layout::Layout;
use crate::{Error, owner};

/// Paths of sockets have at most 107 bytes; the longest name in a folder has 20.
const LONGEST_PATH: usize = 85;
const LOCK: &str = "lock";
const SCRIPTS: [(&str, &str); 4] = [
    ("end.sh", include_str!("scripts/end.sh")),
    ("enter.sh", include_str!("scripts/enter.sh")),
    ("launch.sh", include_str!("scripts/launch.sh")),
    ("node.sh", include_str!("scripts/node.sh")),
];

/// Makes a folder for a new cluster and locks it. What a killed owner left in it is deleted first.
pub(crate) fn claim(folder: &Path) -> Result<(Layout, Flock<File>), Error> {
    check(folder)?;
    let parent = folder.parent().unwrap_or(Path::new("/"));
    make_private(parent)?;
    loop {
        // Take the lock before the rename, so that no other process sees the folder unlocked.
        let part = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(parent)
            .map_err(Error::file("cannot create a folder in", parent))?;
        let path = part.path().join(LOCK);
        let file = File::create(&path).map_err(Error::file("cannot make", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| Error::file("cannot lock", &path)(errno.into()))?;
        fill(&Layout::new(part.path()))?;
        match std::fs::rename(part.path(), folder) {
            Ok(()) => {
                let _ = part.keep();
                return Ok((Layout::new(folder), lock));
            }
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                if !end_orphan(folder)? {
                    return Err(occupied(folder));
                }
            }
            Err(error) => return Err(Error::file("cannot make", folder)(error)),
        }
    }
}

fn occupied(folder: &Path) -> Error {
    let folder = folder.to_path_buf();
    if folder.join(LOCK).exists() {
        return Error::Running { folder };
    }
    Error::Folder { folder, reason: "it exists and holds something else".to_owned() }
}

fn check(folder: &Path) -> Result<(), Error> {
    let refused = |reason: String| Error::Folder { folder: folder.to_path_buf(), reason };
    let bytes = folder.as_os_str().len();
    if bytes > LONGEST_PATH {
        return Err(refused(format!("its path has {bytes} bytes, and sockets in it allow {LONGEST_PATH}")));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !folder.is_absolute() || !folder.to_string_lossy().bytes().all(plain) {
        let expected = "expected an absolute path of letters, digits, `.`, `_` and `-`";
        return Err(refused(expected.to_owned()));
    }
    Ok(())
}

/// Other users must not read the keys of a cluster, nor put a folder of theirs in its place.
pub(crate) fn make_private(folder: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(Error::file("cannot make", folder))?;
    let facts = std::fs::symlink_metadata(folder).map_err(Error::file("cannot examine", folder))?;
    if facts.is_dir() && facts.uid() == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let reason = format!("it belongs to user {}", facts.uid());
    Err(Error::Folder { folder: folder.to_path_buf(), reason })
}

fn fill(layout: &Layout) -> Result<(), Error> {
    for name in ["config/cni", "keys", "logs", "pids", "scripts"] {
        let path = layout.path(name);
        std::fs::create_dir_all(&path).map_err(Error::file("cannot make", &path))?;
    }
    for (name, text) in SCRIPTS {
        let path = layout.script(name);
        std::fs::write(&path, text).map_err(Error::file("cannot write", &path))?;
    }
    Ok(())
}

/// Whether the folder holds a cluster that is in use.
pub(crate) fn in_use(folder: &Path) -> bool {
    folder.join(LOCK).exists() && !matches!(take_lock(folder), Ok(Some(_)))
}

/// Ends the cluster in a folder if its owner is gone, and deletes the folder. `false` if the cluster is in
/// use.
///
/// # Errors
/// A process cannot be ended, or the folder cannot be deleted.
pub fn end_orphan(folder: &Path) -> Result<bool, Error> {
    let Some(lock) = take_lock(folder)? else { return Ok(!folder.exists()) };
    owner::end(&Layout::new(folder), &lock)?;
    Ok(true)
}

/// The lock of a folder, if it is free.
fn take_lock(folder: &Path) -> Result<Option<Flock<File>>, Error> {
    let path = folder.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("cannot open", &path)(error)),
    };
    let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(None) };
    // The folder may have been deleted, and made again, since the file was opened.
    let inode =
        |facts: std::io::Result<std::fs::Metadata>| facts.ok().map(|facts| (facts.dev(), facts.ino()));
    let same = inode(lock.metadata()) == inode(std::fs::metadata(&path));
    Ok(same.then_some(lock))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::Builder::new().prefix("slipway-test-").tempdir().unwrap();
        let folder = parent.path().join("one");
        (parent, folder)
    }

    #[test]
    fn a_folder_holds_one_cluster_at_a_time() {
        let (_parent, folder) = folder();
        let claimed = claim(&folder).unwrap();
        assert!(in_use(&folder));
        let refused = claim(&folder).unwrap_err().to_string();
        assert!(refused.contains("runs in") && refused.contains("already"), "{refused}");
        assert!(!end_orphan(&folder).unwrap());
        drop(claimed);
        assert!(!in_use(&folder));
        let _claimed_again = claim(&folder).unwrap();
    }

    #[test]
    fn a_folder_without_an_owner_is_deleted() {
        let (parent, folder) = folder();
        drop(claim(&folder).unwrap());
        std::fs::write(folder.join("leftover"), "").unwrap();
        assert!(end_orphan(&folder).unwrap());
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
        assert!(end_orphan(&folder).unwrap(), "there is no cluster");
    }

    #[test]
    fn a_folder_of_something_else_is_refused_and_kept() {
        let (_parent, folder) = folder();
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("thesis"), "").unwrap();
        let refused = claim(&folder).unwrap_err().to_string();
        assert!(refused.contains("holds something else"), "{refused}");
        assert!(folder.join("thesis").exists());
    }

    #[test]
    fn a_path_that_cannot_hold_sockets_is_refused() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(100)));
        assert!(claim(&long).unwrap_err().to_string().contains("its path has 105 bytes"));
        for path in ["relative", "/tmp/with space", "/tmp/quo'te"] {
            let refused = claim(Path::new(path)).unwrap_err().to_string();
            assert!(refused.contains("expected an absolute path"), "{refused}");
        }
    }
}
