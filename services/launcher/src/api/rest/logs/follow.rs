//! Reads logs as they grow.

use std::io;
use std::time::Duration;

use axum::body::Bytes;
use futures::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use uuid::Uuid;

use crate::manage::find;
use crate::state::State;

/// Interval at which a followed log is read.
const FOLLOW_INTERVAL_MS: u64 = 150;
const CHUNK_BYTES: usize = 64 * 1024;
/// Pieces that wait for a slow reader.
const QUEUE_PIECES: usize = 8;

/// Where reading begins, and where it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// First attempt.
    pub(super) attempt: u32,
    /// Offset in its log.
    pub(super) offset: u64,
    /// Whether later attempts are left out.
    pub(super) only: bool,
    /// Whether to wait for further output.
    pub(super) follow: bool,
}

/// A piece of a log.
#[derive(Debug)]
pub(super) enum Piece {
    /// The log of an attempt begins, or continues at the position that was asked for.
    Begin { attempt: u32 },
    /// Output. It ends with a complete UTF-8 character, unless the attempt has ended or wrote other bytes.
    Output { attempt: u32, offset: u64, bytes: Bytes },
    /// Nothing follows.
    End { attempt: u32 },
}

/// The client disconnected, or the service stops.
struct Ended;

struct Follower {
    state: State,
    job_id: Uuid,
    start: Position,
    pieces: mpsc::Sender<io::Result<Piece>>,
}

/// The pieces from `start` on. Reading ends when the stream is dropped.
pub(super) fn follow(
    state: State,
    job_id: Uuid,
    start: Position,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = io::Result<Piece>> + Send + 'static {
    let (pieces, receiver) = mpsc::channel(QUEUE_PIECES);
    let (shutdown, followers) = (state.shutdown.clone(), state.followers.clone());
    let follower = Follower { state, job_id, start, pieces };
    followers.spawn(async move {
        let _permit = permit;
        tokio::select! {
            _ = follower.run() => {}
            () = shutdown.cancelled() => {}
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

impl Follower {
    async fn run(self) -> Result<(), Ended> {
        let (mut attempt, mut offset) = (self.start.attempt, self.start.offset);
        let mut last = 0;
        while self.has_begun(attempt).await? {
            self.send(Piece::Begin { attempt }).await?;
            self.copy(attempt, offset).await?;
            last = attempt;
            if self.start.only {
                break;
            }
            (attempt, offset) = (attempt + 1, 0);
        }
        self.send(Piece::End { attempt: last }).await
    }

    /// Waits for the attempt where the reader follows; `false` where it will not come.
    async fn has_begun(&self, attempt: u32) -> Result<bool, Ended> {
        loop {
            match find(&self.state, self.job_id).await {
                Ok(job) if job.state.attempt() >= attempt => return Ok(true),
                Ok(job) if !self.start.follow || job.state.status().is_final() => return Ok(false),
                // Postgres may be unavailable for a while.
                Ok(_) | Err(_) => self.pause().await?,
            }
        }
    }

    async fn copy(&self, attempt: u32, mut offset: u64) -> Result<(), Ended> {
        let path = self.state.logs.path(self.job_id, attempt);
        let mut file = None;
        loop {
            // Read before the log: what is written before the end is in the log by then.
            let over = !self.start.follow || self.is_over(attempt).await;
            if file.is_none() {
                file = File::open(&path).await.ok();
            }
            if let Some(file) = file.as_mut() {
                offset = self.send_rest(file, attempt, offset, over).await?;
            }
            if over {
                return Ok(());
            }
            self.pause().await?;
        }
    }

    async fn is_over(&self, attempt: u32) -> bool {
        find(&self.state, self.job_id)
            .await
            .is_ok_and(|job| job.state.attempt() != attempt || !job.state.has_attempt())
    }

    /// Sends what the log has from `offset` on; returns the offset after it.
    async fn send_rest(
        &self,
        file: &mut File,
        attempt: u32,
        mut offset: u64,
        over: bool,
    ) -> Result<u64, Ended> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = async {
                file.seek(SeekFrom::Start(offset)).await?;
                file.read(&mut buffer).await
            };
            match read.await {
                Ok(length) => {
                    let read = &buffer[..length];
                    let whole = whole_characters(read);
                    let taken = if over && whole == 0 { length } else { whole };
                    if taken == 0 {
                        return Ok(offset);
                    }
                    let bytes = Bytes::copy_from_slice(&read[..taken]);
                    self.send(Piece::Output { attempt, offset, bytes }).await?;
                    offset += taken as u64;
                }
                Err(error) => {
                    tracing::error!(%error, job_id = %self.job_id, attempt, "cannot read a log");
                    let _ = self.pieces.send(Err(error)).await;
                    return Err(Ended);
                }
            }
        }
    }

    async fn send(&self, piece: Piece) -> Result<(), Ended> {
        self.pieces.send(Ok(piece)).await.map_err(|_| Ended)
    }

    async fn pause(&self) -> Result<(), Ended> {
        tokio::select! {
            () = self.pieces.closed() => Err(Ended),
            () = tokio::time::sleep(Duration::from_millis(FOLLOW_INTERVAL_MS)) => Ok(()),
        }
    }
}

/// Length without an incomplete UTF-8 character at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(3);
    let last = bytes[start..].iter().rposition(|byte| byte & 0b1100_0000 != 0b1000_0000);
    let Some(last) = last.map(|at| start + at) else { return bytes.len() };
    let length = match bytes[last] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if last + length > bytes.len() { last } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut() {
        for (bytes, whole) in [("", 0), ("abc", 3), ("aä", 3), ("a€", 4)] {
            assert_eq!(whole_characters(bytes.as_bytes()), whole, "{bytes}");
        }
        assert_eq!(whole_characters(&"aä".as_bytes()[..2]), 1);
        assert_eq!(whole_characters(&"a€".as_bytes()[..3]), 1);
        assert_eq!(whole_characters(&"a😀".as_bytes()[..4]), 1);
        assert_eq!(whole_characters(&[b'a', 0xFF, 0xFE]), 3, "bytes that are not UTF-8 are not held back");
        assert_eq!(whole_characters(&[0x80; 9]), 9);
    }
}
