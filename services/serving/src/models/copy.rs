//! A version of a local folder that has more files than its model, such as external data, is opened from a
//! copy.
//!
//! ONNX Runtime maps external data where they lie, and reads them for as long as the model is loaded. A
//! caller that writes over them in place would change weights under requests, and where they become shorter,
//! the next look at them ends the process.

use std::path::{Path, PathBuf};

use super::cache::{Cache, Part};
use super::files::{MODEL_FILE, files_below};
use super::folder::digest_now;
use super::served::SETTINGS_FILE;

/// Where a version is opened.
pub(super) struct Place {
    /// Its folder.
    pub folder: PathBuf,
    /// Removes the copy, once it is open: what is mapped stays, though nothing has its name any more.
    _copy: Option<Part>,
}

/// Copies the version, if there is something to copy, as it was when it had `digest`.
///
/// # Errors
/// It has changed since, or it cannot be copied.
pub(super) fn steady(cache: &Cache, model: &Path, version: &Path, digest: &str) -> Result<Place, String> {
    let complain = |error: std::io::Error| format!("copying it to the cache directory: {error}");
    let files = files_below(version).map_err(|error| error.to_string())?;
    let alone = [version.join(MODEL_FILE), version.join(SETTINGS_FILE)];
    if files.iter().all(|file| alone.contains(file)) {
        return Ok(Place { folder: version.to_owned(), _copy: None });
    }
    let copy = cache.part();
    for file in files.iter().filter(|file| file.is_file()) {
        let target = copy.path.join(file.strip_prefix(version).unwrap_or(file));
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(complain)?;
        }
        std::fs::copy(file, target).map_err(complain)?;
    }
    // What changed before or meanwhile has another digest, for which it will be loaded.
    if digest_now(model, version).map_err(|error| error.to_string())? != digest {
        return Err("its files have just changed".to_owned());
    }
    Ok(Place { folder: copy.path.clone(), _copy: Some(copy) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_with_more_than_a_model_is_copied_as_it_was_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache")).unwrap();
        let model = folder.path().join("m");
        let version = model.join("1");
        std::fs::create_dir_all(version.join("data")).unwrap();
        std::fs::write(version.join(MODEL_FILE), "model").unwrap();
        let digest = digest_now(&model, &version).unwrap();
        assert_eq!(steady(&cache, &model, &version, &digest).unwrap().folder, version, "it is read at once");

        std::fs::write(version.join("data/weights"), "weights").unwrap();
        assert_eq!(steady(&cache, &model, &version, &digest).err().unwrap(), "its files have just changed");
        let digest = digest_now(&model, &version).unwrap();
        let place = steady(&cache, &model, &version, &digest).unwrap();
        std::fs::write(version.join("data/weights"), "").unwrap();
        assert_eq!(std::fs::read(place.folder.join("data/weights")).unwrap(), b"weights");
        assert_eq!(std::fs::read(place.folder.join(MODEL_FILE)).unwrap(), b"model");
        drop(place);
        assert_eq!(std::fs::read_dir(folder.path().join("cache/part")).unwrap().count(), 0);
    }
}
