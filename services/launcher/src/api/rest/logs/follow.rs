//! Reads logs as they grow.

use std::io;
use std::time::Duration;

use axum::body::Bytes;
use bytes::BytesMut;
use futures::Stream;
use slipway_access::Place;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::logs::{LogError, LogKey};
use crate::state::State;
use crate::store::attempts::StoredLog;
use crate::store::jobs::{self, Progress};

/// Interval at which a followed log is read.
const FOLLOW_INTERVAL_MS: u64 = 150;
/// A part of a log that is being replaced is there again by then.
const MAX_MISSES: u32 = 40;
/// Pieces that wait for a slow reader.
const QUEUE_PIECES: usize = 8;

/// Where reading begins, and where it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// First attempt.
    pub(super) attempt: u32,
    /// Offset in its log.
    pub(super) offset: u64,
    /// Number of a process of a distributed job; `None` for an attempt with one process.
    pub(super) process: Option<u32>,
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
    place: Place,
) -> impl Stream<Item = io::Result<Piece>> + Send + 'static {
    let (pieces, receiver) = mpsc::channel(QUEUE_PIECES);
    let (hang_up, followers) = (state.hang_up.clone(), state.followers.clone());
    let follower = Follower { state, job_id, start, pieces };
    followers.spawn(async move {
        let _place = place;
        tokio::select! {
            _ = follower.run() => {}
            () = hang_up.cancelled() => {}
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
            match self.look(attempt).await {
                Ok((job, _)) if job.attempt() >= attempt => return Ok(true),
                Ok((job, _)) if !self.start.follow || job.is_final => return Ok(false),
                // Postgres may be unavailable for a while.
                Ok(_) | Err(_) => self.pause().await?,
            }
        }
    }

    const fn log(&self, attempt: u32) -> LogKey {
        LogKey { job_id: self.job_id, attempt, process: self.start.process }
    }

    /// The job, and the log of one of its attempts as it is now.
    async fn look(&self, attempt: u32) -> Result<(Progress, Option<StoredLog>), LogError> {
        let mut connection = self.state.pool.acquire().await?;
        let job = jobs::progress(&mut connection, self.job_id).await?.ok_or(sqlx::Error::RowNotFound)?;
        // After the job: what was written before the attempt's end is in the log by then.
        let log = self.log(attempt).stored(&mut connection).await?;
        Ok((job, log))
    }

    async fn copy(&self, attempt: u32, mut offset: u64) -> Result<(), Ended> {
        let mut misses = 0;
        loop {
            let Ok((job, log)) = self.look(attempt).await else {
                self.pause().await?;
                continue;
            };
            let over = !self.start.follow || job.attempt() != attempt || !job.has_attempt;
            if let Some(log) = log {
                offset = self.send_rest(log, attempt, offset, over).await?;
                if over && matches!(log, StoredLog::Objects(length) if offset < length) {
                    misses += 1;
                    if misses > MAX_MISSES {
                        return self.fail(attempt, io::Error::other("a part of the log is missing")).await;
                    }
                    self.pause().await?;
                    continue;
                }
            }
            if over {
                return Ok(());
            }
            self.pause().await?;
        }
    }

    /// Sends what the log has from `offset` on; returns the offset after it.
    async fn send_rest(
        &self,
        log: StoredLog,
        attempt: u32,
        mut offset: u64,
        over: bool,
    ) -> Result<u64, Ended> {
        // A character that is cut where a chunk ends.
        let mut held = BytesMut::new();
        loop {
            let position = offset + held.len() as u64;
            let bytes = match self.state.logs.read(self.log(attempt), log, position).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.fail(attempt, io::Error::other(error)).await?;
                    return Err(Ended);
                }
            };
            let is_end = bytes.is_empty();
            held.extend_from_slice(&bytes);
            let missing = matches!(log, StoredLog::Objects(length) if position < length);
            let taken = if is_end && over && !missing { held.len() } else { whole_characters(&held) };
            if taken > 0 {
                let bytes = held.split_to(taken).freeze();
                self.send(Piece::Output { attempt, offset, bytes }).await?;
                offset += taken as u64;
            }
            if is_end {
                return Ok(offset);
            }
        }
    }

    async fn fail(&self, attempt: u32, error: io::Error) -> Result<(), Ended> {
        tracing::error!(%error, job_id = %self.job_id, attempt, "cannot read a log");
        let _ = self.pieces.send(Err(error)).await;
        Err(Ended)
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
