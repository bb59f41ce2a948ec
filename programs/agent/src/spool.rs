//! The attempt's log on its way to the launcher: written to a file first, so that neither a slow nor an
//! absent launcher ever stops the command, and nothing is lost while the launcher starts again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::faults::Faults;
use crate::launcher::{CallError, Launcher};

/// What one call carries.
const CHUNK_BYTES: u64 = 256 * 1024;
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Lines that come this close together travel together.
const BATCH_DELAY_MS: u64 = 30;
/// Less than a chunk is sent at most this often: each time the launcher stores an object.
const INTERVAL_MS: u64 = 500;
/// Marks the agent's own lines.
const NOTE_PREFIX: &str = "[slipway] ";

/// The log of one attempt. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    path: Arc<Path>,
    writer: Arc<Mutex<Writer>>,
    faults: Arc<Mutex<Faults>>,
    written: watch::Sender<Written>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    bytes: u64,
    limit_bytes: u64,
    in_line: bool,
    full: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Written {
    bytes: u64,
    closed: bool,
}

impl Spool {
    /// An empty log in the file `path`; what is written beyond `limit_bytes` is left out, with a mark.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) async fn create(path: PathBuf, limit_bytes: u64) -> std::io::Result<Self> {
        let file = File::create(&path).await?;
        let writer = Writer { file, bytes: 0, limit_bytes, in_line: false, full: false };
        Ok(Self {
            path: path.into(),
            writer: Arc::new(Mutex::new(writer)),
            faults: Arc::default(),
            written: watch::channel(Written::default()).0,
        })
    }

    /// Takes what the command writes until it writes no more. What does not fit or cannot be stored is read
    /// all the same, so that the command is not held up.
    pub(crate) async fn pump(&self, mut source: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            match source.read(&mut buffer).await {
                Ok(0) => return,
                Ok(length) => {
                    self.faults.lock().await.read(&buffer[..length]);
                    self.append(&buffer[..length]).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "output of the command cannot be read");
                    return;
                }
            }
        }
    }

    /// What the command has written about a GPU that does not work; empty where it has not.
    pub(crate) async fn gpu_fault(&self) -> String {
        self.faults.lock().await.found().unwrap_or_default()
    }

    /// Adds a line of the agent's own.
    pub(crate) async fn note(&self, text: &str) {
        tracing::info!("{text}");
        let line_end = if self.writer.lock().await.in_line { "\n" } else { "" };
        self.append(format!("{line_end}{NOTE_PREFIX}{text}\n").as_bytes()).await;
    }

    /// Nothing more will be written: [`Self::ship`] returns when all has been sent.
    pub(crate) fn close(&self) {
        self.written.send_modify(|written| written.closed = true);
    }

    async fn append(&self, bytes: &[u8]) {
        let mut writer = self.writer.lock().await;
        if let Err(error) = writer.append(bytes).await {
            tracing::error!(%error, "log cannot be stored; the rest of it is lost");
            writer.full = true;
        }
        self.written.send_modify(|written| written.bytes = writer.bytes);
    }

    /// Sends what is written, as it is written, until the log is closed and sent, or the attempt is replaced.
    /// Each call begins at a multiple of `unit_bytes`: what the launcher has of that unit is sent again, so
    /// that it stores the unit without reading it.
    ///
    /// # Errors
    /// The spool file cannot be read.
    pub(crate) async fn ship(self, launcher: Launcher, unit_bytes: u64) -> std::io::Result<()> {
        let unit_bytes = unit_bytes.clamp(1, CHUNK_BYTES);
        let mut file = File::open(self.path.to_path_buf()).await?;
        let mut written = self.written.subscribe();
        let (mut sent, mut last) = (0, None);
        loop {
            let now = *written.borrow_and_update();
            if sent < now.bytes {
                wait_for_more(&mut written, sent + unit_bytes, last).await;
                let now = *written.borrow_and_update();
                let start = sent - sent % unit_bytes;
                let chunk = read_at(&mut file, start, (now.bytes - start).min(CHUNK_BYTES)).await?;
                last = Some(Instant::now());
                match launcher.append_logs(start, chunk).await {
                    Ok(next) => sent = next,
                    Err(error @ CallError::Fenced(_)) => {
                        tracing::warn!(%error, "launcher rejected the rest of the log");
                        return Ok(());
                    }
                    Err(error) => {
                        tracing::error!(%error, "log cannot be sent");
                        return Ok(());
                    }
                }
                continue;
            }
            if now.closed {
                return Ok(());
            }
            // The sender lives in `self`.
            if written.changed().await.is_err() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(BATCH_DELAY_MS)).await;
        }
    }
}

/// Waits until the log has `bytes`, is closed, or was not sent for a while.
async fn wait_for_more(written: &mut watch::Receiver<Written>, bytes: u64, last: Option<Instant>) {
    let Some(last) = last else { return };
    let enough = written.wait_for(|written| written.closed || written.bytes >= bytes);
    // Late or enough: both are a reason to send.
    let _ = tokio::time::timeout_at(last + Duration::from_millis(INTERVAL_MS), enough).await;
}

impl Writer {
    async fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.full {
            return Ok(());
        }
        let room = usize::try_from(self.limit_bytes - self.bytes).unwrap_or(usize::MAX);
        if bytes.len() <= room {
            return self.write(bytes).await;
        }
        let mark = format!(
            "\n{NOTE_PREFIX}the log is longer than {} bytes; the rest is left out\n",
            self.limit_bytes
        );
        self.write(&bytes[..room]).await?;
        self.full = true;
        self.write(mark.as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes).await?;
        self.file.flush().await?;
        self.bytes += bytes.len() as u64;
        self.in_line = bytes.last().map_or(self.in_line, |last| *last != b'\n');
        Ok(())
    }
}

async fn read_at(file: &mut File, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    let mut chunk = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact(&mut chunk).await?;
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn written(limit_bytes: u64, parts: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let spool = Spool::create(path.clone(), limit_bytes).await.unwrap();
        for part in parts {
            match part.strip_prefix('#') {
                Some(note) => spool.note(note).await,
                None => spool.pump(part.as_bytes()).await,
            }
        }
        std::fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn notes_stand_on_lines_of_their_own() {
        assert_eq!(
            written(1_000, &["half", "#note", "rest\n", "#end"]).await,
            "half\n[slipway] note\nrest\n[slipway] end\n"
        );
    }

    #[tokio::test]
    async fn what_is_too_long_is_cut_with_a_mark() {
        let text = written(4, &["abc", "def", "ghi"]).await;
        assert_eq!(text, "abcd\n[slipway] the log is longer than 4 bytes; the rest is left out\n");
    }
}
