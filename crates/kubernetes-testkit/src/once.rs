//! Folders of the toolbox cache: complete or absent, and made once by one process.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::Error;

/// The folder `<prefix>-<key>` of the cache, which `make` fills if it is absent. Other processes that need it
/// wait.
pub(crate) fn ensure(
    prefix: &str,
    key: &str,
    make: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    slipway_toolbox::fill_once(&slipway_toolbox::cache_dir()?, prefix, key, Path::new(""), make)
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
