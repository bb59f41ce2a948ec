//! Where records and markers lie, in the cache directory.
//!
//! ```text
//! probes/<key>.json        what is known of a version
//! loading/<key>.<name>     a load by a process that holds a lock on the file until it ends
//! ```

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};
use std::time::SystemTime;

use slipway_runtime::id;

use super::super::cache::{Cache, read_json};
use super::key::Key;
use super::record::Record;

/// Records that are kept; the oldest go first.
const MAX_RECORDS: usize = 10_000;

/// A load of this process. Dropping it says that the process has survived it.
#[derive(Debug)]
pub(in super::super) struct Marker {
    cache: Cache,
    key: Key,
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Cache {
    /// What is known of a version. Loads that ended with their process are counted; so call it from a
    /// blocking thread.
    pub(super) fn probe_record(&self, key: &Key) -> Record {
        let mut record: Record = read_json(&self.record_path(key)).unwrap_or_default();
        let interrupted = self.take_interrupted(key);
        if interrupted > 0 {
            record.interrupted = record.interrupted.saturating_add(interrupted);
            tracing::warn!(
                key = key.0,
                loads = record.interrupted,
                "the previous process ended while loading a version; loading it in a child process first"
            );
            if let Err(error) = self.keep_probe_record(key, &record) {
                tracing::warn!(%error, "verdict on a version not stored");
            }
        }
        record
    }

    /// Keeps what is known of a version.
    ///
    /// # Errors
    /// The disk fails.
    pub(super) fn keep_probe_record(&self, key: &Key, record: &Record) -> io::Result<()> {
        self.write_json(&self.record_path(key), record)
    }

    /// Notes a load by this process.
    ///
    /// # Errors
    /// The disk fails.
    pub(super) fn mark_load(&self, key: &Key) -> io::Result<Marker> {
        // The lock is taken under another name, so that no other process sees the file without it.
        let part = self.part();
        let file = File::create(&part.path)?;
        file.lock()?;
        let path = self.loading().join(format!("{}.{}", key.0, id::random().simple()));
        std::fs::rename(&part.path, &path)?;
        self.lock_markers().insert(path.clone());
        Ok(Marker { cache: self.clone(), key: key.clone(), path, _file: file })
    }

    /// Removes the notes of loads that this process has in progress: it ends for another reason.
    pub(in super::super) fn forget_loads(&self) {
        for path in self.lock_markers().iter() {
            let _ = std::fs::remove_file(path);
        }
    }

    fn lock_markers(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // Each change is whole before the lock goes.
        self.markers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and removes the markers of loads that ended with their process.
    fn take_interrupted(&self, key: &Key) -> u32 {
        let Ok(entries) = std::fs::read_dir(self.loading()) else { return 0 };
        let mut interrupted = 0;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.split_once('.').is_none_or(|(of, _)| of != key.0) {
                continue;
            }
            let Ok(file) = File::open(&path) else { continue };
            match file.try_lock() {
                Ok(()) if std::fs::remove_file(&path).is_ok() => interrupted += 1,
                Ok(()) | Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            }
        }
        interrupted
    }

    /// Removes the records that were written longest ago where there are too many.
    ///
    /// # Errors
    /// The disk fails.
    pub(in super::super) fn trim_probe_records(&self) -> io::Result<()> {
        let mut records: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(self.probes())?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        records.sort();
        let excess = records.len().saturating_sub(MAX_RECORDS);
        for (_, path) in records.into_iter().take(excess) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn record_path(&self, key: &Key) -> PathBuf {
        self.probes().join(format!("{}.json", key.0))
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        let known: Record = read_json(&self.cache.record_path(&self.key)).unwrap_or_default();
        let survived = known.survived();
        if survived != known
            && let Err(error) = self.cache.keep_probe_record(&self.key, &survived)
        {
            tracing::warn!(%error, "verdict on a version not stored");
        }
        self.cache.lock_markers().remove(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Next, Observed};
    use super::*;

    #[test]
    fn a_load_that_ends_with_its_process_is_counted_once_and_one_that_runs_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let (key, other) = (Key("a".into()), Key("ab".into()));
        let (passed, _) = Record::default().after(&Observed::Passed(Vec::new()));
        cache.keep_probe_record(&key, &passed).unwrap();
        let running = cache.mark_load(&key).unwrap();
        assert_eq!(cache.probe_record(&key).next(), Next::Load(Vec::new()), "another replica loads it");
        drop(running);
        assert_eq!(std::fs::read_dir(cache.loading()).unwrap().count(), 0);
        // As a process leaves it that was killed: the file without a lock.
        for (at, next) in [Next::Probe, Next::Probe].into_iter().enumerate() {
            std::fs::write(cache.loading().join(format!("a.{at}")), "").unwrap();
            assert_eq!(cache.probe_record(&key).next(), next);
            assert_eq!(cache.probe_record(&key).interrupted, u32::try_from(at).unwrap() + 1);
        }
        assert_eq!(cache.probe_record(&other), Record::default());
        // A load that does not end the process ends the row.
        drop(cache.mark_load(&key).unwrap());
        assert_eq!(cache.probe_record(&key).next(), Next::Load(Vec::new()));
    }

    #[test]
    fn a_load_that_the_end_of_the_process_interrupts_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let key = Key("a".into());
        let marker = cache.mark_load(&key).unwrap();
        cache.forget_loads();
        assert_eq!(std::fs::read_dir(cache.loading()).unwrap().count(), 0);
        drop(marker);
    }

    #[test]
    fn a_damaged_record_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let key = Key("a".into());
        std::fs::write(cache.record_path(&key), "{").unwrap();
        assert_eq!(cache.probe_record(&key).next(), Next::Probe);
    }
}
