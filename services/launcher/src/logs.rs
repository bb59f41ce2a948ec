//! Logs of attempts: one file each, appended by offset, so that a chunk that comes twice is stored once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::fs::{self, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;
use uuid::Uuid;

/// The agent cuts the log; this is for one that does not, with room for the agent's mark.
const LIMIT_SLACK_BYTES: u64 = 64 * 1024;
/// Appends to different files rarely wait for each other.
const LOCKS: usize = 16;

/// The folder of logs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    root: Arc<Path>,
    max_bytes: u64,
    locks: Arc<[Mutex<()>; LOCKS]>,
}

impl Logs {
    /// Logs in the folder `root`, which exists.
    pub(crate) fn new(root: &Path, max_bytes: u64) -> Self {
        let locks = Arc::new(std::array::from_fn(|_| Mutex::new(())));
        Self { root: root.into(), max_bytes, locks }
    }

    /// What an attempt's log may hold.
    pub(crate) const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub(crate) fn path(&self, job_id: Uuid, attempt: u32) -> PathBuf {
        self.root.join(job_id.to_string()).join(format!("{attempt}.log"))
    }

    /// Appends what is new of `chunk`, which begins at `offset`; answers with the offset wanted next. A chunk
    /// that would leave a gap is not stored, and the answer is where the gap begins.
    pub(crate) async fn append(
        &self,
        job_id: Uuid,
        attempt: u32,
        offset: u64,
        chunk: &[u8],
    ) -> std::io::Result<u64> {
        let _held = self.locks[(job_id.as_u128() % LOCKS as u128) as usize].lock().await;
        let path = self.path(job_id, attempt);
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await?;
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).await?;
        let length = file.metadata().await?.len();
        let end = offset.saturating_add(chunk.len() as u64);
        let room = (self.max_bytes + LIMIT_SLACK_BYTES).saturating_sub(length);
        if room == 0 {
            // Taken and dropped: the agent has nothing better to do with it.
            return Ok(end);
        }
        if offset > length || end <= length {
            return Ok(length);
        }
        let known = usize::try_from(length - offset).unwrap_or(chunk.len());
        let fresh = &chunk[known..];
        file.write_all(&fresh[..usize::try_from(room).unwrap_or(usize::MAX).min(fresh.len())]).await?;
        file.flush().await?;
        Ok(end)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_agent_sends_beyond_the_limit_is_dropped_and_not_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path(), 10);
        let (job, limit) = (Uuid::new_v4(), 10 + LIMIT_SLACK_BYTES);
        let chunk = vec![b'x'; usize::try_from(limit).unwrap() + 5];
        assert_eq!(logs.append(job, 1, 0, &chunk).await.unwrap(), limit + 5);
        assert_eq!(logs.append(job, 1, limit + 5, b"more").await.unwrap(), limit + 9);
        assert_eq!(std::fs::metadata(logs.path(job, 1)).unwrap().len(), limit);
    }

    #[tokio::test]
    async fn a_chunk_that_comes_twice_is_stored_once() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path(), 1_000_000);
        let job = Uuid::new_v4();
        assert_eq!(logs.append(job, 1, 0, b"one\n").await.unwrap(), 4);
        assert_eq!(logs.append(job, 1, 0, b"one\n").await.unwrap(), 4);
        assert_eq!(logs.append(job, 1, 2, b"e\ntwo\n").await.unwrap(), 8);
        assert_eq!(logs.append(job, 1, 100, b"gap").await.unwrap(), 8);
        assert_eq!(std::fs::read_to_string(logs.path(job, 1)).unwrap(), "one\ntwo\n");
    }
}
