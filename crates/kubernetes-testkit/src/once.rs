//! Folders of the toolbox cache: complete or absent, and made once by one process.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// The folder `<prefix>-<key>` of the cache, which `make` fills if it is absent. Other processes that need it
/// wait.
pub(crate) fn ensure(
    prefix: &str,
    key: &str,
    make: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let cache = slipway_toolbox::cache_dir()?;
    let folder = cache.join(format!("{prefix}-{key}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&cache).map_err(Error::file("cannot make", &cache))?;
    let _lock = lock(&cache.join(format!(".{prefix}.lock")))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    remove_parts(&cache, prefix);
    let part = tempfile::Builder::new()
        .prefix(&format!(".{prefix}-"))
        .tempdir_in(&cache)
        .map_err(Error::file("cannot create a folder in", &cache))?;
    make(part.path())?;
    // Servers run as another account where we are root, and the cache has nothing secret.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(part.path(), open).map_err(Error::file("cannot open", part.path()))?;
    std::fs::rename(part.keep(), &folder).map_err(Error::file("cannot make", &folder))?;
    Ok(folder)
}

/// Deletes what a process left that was killed while it filled a folder. Whoever holds the lock fills the
/// only one.
fn remove_parts(cache: &Path, prefix: &str) {
    let start = format!(".{prefix}-");
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&start) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether the folder is in the cache.
pub(crate) fn exists(prefix: &str, key: &str) -> bool {
    slipway_toolbox::cache_dir().is_ok_and(|cache| cache.join(format!("{prefix}-{key}")).is_dir())
}

/// The start of the SHA-256 of parts, each of which ends where it ends.
pub(crate) fn key<'part>(parts: impl IntoIterator<Item = &'part [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hex::encode(&hasher.finalize()[..6])
}

/// Waits for an exclusive lock.
pub(crate) fn lock(path: &Path) -> Result<Flock<File>, Error> {
    let file = File::create(path).map_err(Error::file("cannot make", path))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::file("cannot lock", path)(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_every_part_and_where_it_ends() {
        let of = |parts: &[&str]| key(parts.iter().map(|part| part.as_bytes()));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab", "c"]), of(&["ab", "d"]));
        assert_eq!(of(&[]).len(), 12);
    }
}
