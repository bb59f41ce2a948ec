//! The id of a launcher: it lasts as long as its data folder, so that a launcher that is started again knows
//! which attempts are its own.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use slipway_runtime::id;
use uuid::Uuid;

const FILE: &str = "launcher-id";

/// The id of this launcher. No other one has it while this is not dropped.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: Uuid,
    /// Held as long as the id is used.
    _lock: Option<File>,
}

impl Identity {
    /// The id in the data folder, or a new one that is kept there. A second launcher with the same data
    /// folder has an id of its own, which ends with it.
    ///
    /// # Errors
    /// The file can be neither read nor written.
    pub(crate) fn of(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join(FILE);
        let within = || format!("cannot use {} (SLIPWAY_DATA_DIR)", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(within)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!("another launcher uses the data folder; this one has an id of its own");
                return Ok(Self { id: id::random(), _lock: None });
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(within),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(within)?;
        let id = match Uuid::parse_str(text.trim()) {
            Ok(id) => id,
            Err(_) => {
                let id = id::random();
                file.set_len(0).with_context(within)?;
                file.rewind().with_context(within)?;
                writeln!(file, "{id}").with_context(within)?;
                file.sync_all().with_context(within)?;
                id
            }
        };
        Ok(Self { id, _lock: Some(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_lasts_as_long_as_its_folder_and_is_held_by_one_launcher() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::of(folder.path()).unwrap();
        let second = Identity::of(folder.path()).unwrap();
        assert_ne!(first.id, second.id);
        let id = first.id;
        drop(first);
        assert_eq!(Identity::of(folder.path()).unwrap().id, id);
        std::fs::write(folder.path().join(FILE), "not an id").unwrap();
        let fresh = Identity::of(folder.path()).unwrap().id;
        assert_ne!(fresh, id);
    }
}
