//! Logs of attempts, as objects in the artifact store: written while the job runs, read by any launcher.
//!
//! A log is cut at multiples of [`CHUNK_BYTES`]. An object holds one chunk, or as much of the last one as is
//! there; its key names the chunk and where the object ends:
//!
//! ```text
//! logs/<job>/<attempt>/00000000-000000065536     the first chunk, full
//! logs/<job>/<attempt>/00000001-000000070000     the second one, so far
//! ```
//!
//! Each process of a distributed job has a log of its own, under `logs/<job>/<attempt>-<process>/`.
//!
//! The key determines the bytes, so an object that is stored twice, or late, changes nothing. The length of
//! the log is in Postgres and grows after the objects are there. From the length follow the keys of all
//! objects that count; a shorter last chunk is deleted when it has been replaced.
//!
//! Earlier releases kept each log in a file on the launcher's disk. These are read where they are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use slipway_artifact_store::{ArtifactStore, Error};
use sqlx::{PgConnection, PgPool};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, SeekFrom};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::store::attempts::{self, StoredLog};
use crate::store::processes::{self, ProcessKey};

/// Length of a chunk. Agents begin what they send at a multiple of it, so that nothing has to be read to
/// write.
pub(crate) const CHUNK_BYTES: u64 = 64 * 1024;
/// The agent cuts the log; this is for one that does not, with room for the agent's mark.
const LIMIT_SLACK_BYTES: u64 = 64 * 1024;

/// Where logs are. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    store: ArtifactStore,
    /// Logs of earlier releases.
    root: Arc<Path>,
    /// Held while one of them is appended to.
    appending: Arc<Mutex<()>>,
    max_bytes: u64,
}

/// Why a log cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the disk: {0}")]
    Disk(#[from] io::Error),
}

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogKey {
    pub(crate) job_id: Uuid,
    pub(crate) attempt: u32,
    /// Number of a process of a distributed job; `None` for an attempt with one process.
    pub(crate) process: Option<u32>,
}

impl LogKey {
    fn of_process(self) -> Option<ProcessKey> {
        let Self { job_id, attempt, process } = self;
        process.map(|number| ProcessKey { job_id, attempt, number })
    }

    /// Where the log is; `None` where there is no such attempt or process.
    pub(crate) async fn stored(
        self,
        connection: &mut PgConnection,
    ) -> Result<Option<StoredLog>, sqlx::Error> {
        match self.of_process() {
            Some(key) => Ok(processes::log_bytes(connection, key).await?.map(StoredLog::Objects)),
            None => attempts::log(connection, self.job_id, self.attempt).await,
        }
    }

    /// Notes that the log has grown to `bytes`. Answers with its length.
    async fn grow(self, connection: &mut PgConnection, bytes: u64) -> Result<u64, sqlx::Error> {
        match self.of_process() {
            Some(key) => processes::set_log_bytes(connection, key, bytes).await,
            None => attempts::set_log_bytes(connection, self.job_id, self.attempt, bytes).await,
        }
    }

    /// Key of the object that holds a chunk up to `end`.
    fn object(self, end: u64) -> String {
        let chunk = end.saturating_sub(1) / CHUNK_BYTES;
        let process = self.process.map(|process| format!("-{process}")).unwrap_or_default();
        format!("{}/{}{process}/{chunk:08}-{end:012}", prefix(self.job_id), self.attempt)
    }
}

/// Object key prefix of a job's logs, without a trailing slash.
pub(crate) fn prefix(job_id: Uuid) -> String {
    format!("logs/{job_id}")
}

/// Keys of the objects of a log of this length, in order.
pub(crate) fn keys(log: &LogKey, length: u64) -> impl Iterator<Item = String> {
    let (log, chunks) = (*log, length.div_ceil(CHUNK_BYTES));
    (1..=chunks).map(move |number| log.object((number * CHUNK_BYTES).min(length)))
}

/// The logs of a job that are in the artifact store, with their lengths in bytes.
pub(crate) async fn lengths(
    connection: &mut PgConnection,
    job_id: Uuid,
) -> Result<Vec<(LogKey, u64)>, sqlx::Error> {
    let of_attempts = attempts::logs(connection, job_id).await?.into_iter();
    let of_attempts = of_attempts.map(|(attempt, length)| (attempt, None, length));
    let of_processes = processes::logs(connection, job_id).await?.into_iter();
    let of_processes = of_processes.map(|(attempt, process, length)| (attempt, Some(process), length));
    let log = |(attempt, process, length)| (LogKey { job_id, attempt, process }, length);
    Ok(of_attempts.chain(of_processes).map(log).collect())
}

impl Logs {
    /// Logs in the store, and those of earlier releases in the folder `root`.
    pub(crate) fn new(store: ArtifactStore, root: &Path, max_bytes: u64) -> Self {
        Self { store, root: root.into(), appending: Arc::default(), max_bytes }
    }

    /// What an attempt's log may hold.
    pub(crate) const fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    fn path(&self, job_id: Uuid, attempt: u32) -> PathBuf {
        self.root.join(job_id.to_string()).join(format!("{attempt}.log"))
    }

    /// Appends what is new of `chunk`, which begins at `offset`, to a log that is `stored`; answers with the
    /// offset wanted next. A chunk that would leave a gap is not stored, and the answer is where the gap
    /// begins.
    ///
    /// # Errors
    /// The store, Postgres or the disk fail; what is stored stays as it was.
    pub(crate) async fn append(
        &self,
        pool: &PgPool,
        log: LogKey,
        stored: StoredLog,
        offset: u64,
        chunk: Bytes,
    ) -> Result<u64, LogError> {
        let StoredLog::Objects(length) = stored else {
            return Ok(self.append_to_file(log.job_id, log.attempt, offset, &chunk).await?);
        };
        let end = offset.saturating_add(chunk.len() as u64);
        let limit = self.max_bytes + LIMIT_SLACK_BYTES;
        if length >= limit {
            // Taken and dropped: the agent has nothing better to do with it.
            return Ok(end);
        }
        if offset > length || end <= length {
            return Ok(length);
        }
        let new_length = end.min(limit);
        let partial = self.put(log, length, offset, chunk, new_length).await?;
        let mut connection = pool.acquire().await?;
        let now = log.grow(&mut connection, new_length).await?;
        drop(connection);
        self.delete_replaced(log, &[length, partial], now).await;
        Ok(end)
    }

    /// Stores the chunks from the one in which `length` lies, up to `new_length`. Answers with `new_length`.
    async fn put(
        &self,
        log: LogKey,
        length: u64,
        offset: u64,
        chunk: Bytes,
        new_length: u64,
    ) -> Result<u64, LogError> {
        let mut start = length - length % CHUNK_BYTES;
        while start < new_length {
            let end = (start + CHUNK_BYTES).min(new_length);
            let sent = |from: u64, to: u64| {
                let at = |position: u64| usize::try_from(position - offset).unwrap_or(usize::MAX);
                chunk.slice(at(from)..at(to))
            };
            let bytes = if start >= offset {
                sent(start, end)
            } else {
                // The agent began within the chunk: what precedes it is read again.
                let known = self.store.get_bytes(&log.object(length), CHUNK_BYTES).await?;
                let known_bytes = usize::try_from(length - start).unwrap_or(usize::MAX).min(known.len());
                let mut whole = BytesMut::from(&known[..known_bytes]);
                whole.extend_from_slice(&sent(length, end));
                whole.freeze()
            };
            self.store.put_bytes(&log.object(end), bytes).await?;
            start = end;
        }
        Ok(new_length)
    }

    /// Deletes the objects of last chunks that a longer one has replaced. What stays is collected later.
    async fn delete_replaced(&self, log: LogKey, ends: &[u64], length: u64) {
        for end in ends.iter().copied().filter(|end| end % CHUNK_BYTES != 0 && *end < length) {
            if let Err(error) = self.store.delete(&log.object(end)).await {
                tracing::debug!(%error, ?log, "replaced object of a log not deleted");
            }
        }
    }

    /// What is stored of a log from `offset` on: at most the rest of one chunk; nothing at the end, and
    /// nothing while an object is being replaced.
    ///
    /// # Errors
    /// The store or the disk fail.
    pub(crate) async fn read(&self, log: LogKey, stored: StoredLog, offset: u64) -> Result<Bytes, LogError> {
        let StoredLog::Objects(length) = stored else {
            return Ok(self.read_file(log.job_id, log.attempt, offset).await?);
        };
        if offset >= length {
            return Ok(Bytes::new());
        }
        let start = offset - offset % CHUNK_BYTES;
        let end = (start + CHUNK_BYTES).min(length);
        match self.store.get_bytes(&log.object(end), CHUNK_BYTES).await {
            Ok(bytes) => {
                let skipped = usize::try_from(offset - start).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(skipped..))
            }
            Err(Error::NotFound { .. }) => Ok(Bytes::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn append_to_file(&self, job_id: Uuid, attempt: u32, offset: u64, chunk: &[u8]) -> io::Result<u64> {
        let _held = self.appending.lock().await;
        let path = self.path(job_id, attempt);
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await?;
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).await?;
        let length = file.metadata().await?.len();
        let end = offset.saturating_add(chunk.len() as u64);
        let room = (self.max_bytes + LIMIT_SLACK_BYTES).saturating_sub(length);
        if room == 0 {
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

    /// Nothing where there is no such file: it may be on the disk of another launcher.
    async fn read_file(&self, job_id: Uuid, attempt: u32, offset: u64) -> io::Result<Bytes> {
        let mut file = match File::open(self.path(job_id, attempt)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bytes::new()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(offset)).await?;
        let mut buffer = vec![0; usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX)];
        let length = file.read(&mut buffer).await?;
        buffer.truncate(length);
        Ok(buffer.into())
    }
}

#[cfg(test)]
mod tests;
