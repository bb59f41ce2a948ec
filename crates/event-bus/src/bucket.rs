//! A bucket that is followed: read as a whole first, then change by change, for as long as it is the same
//! bucket on the same connection and nothing of it is missing.

use std::time::Duration;

use async_nats::jetstream::kv::{Entry, Store, Watch};
use futures::StreamExt as _;
use tokio::time::{Interval, MissedTickBehavior};

use crate::bus::{CONNECTION_CHECK_MS, connections};
use crate::{Error, EventBus};

/// Every how many of those checks the server is asked which bucket it has, and up to where.
const CHECKS_PER_QUESTION: u32 = 40;
/// A bucket that is silent for this long before it was read to its end is read again: what was left of it was
/// removed meanwhile.
const SILENCE_MS: u64 = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Followed {
    bus: EventBus,
    store: Store,
    entries: Entries,
    connected: u64,
    created_unix_ms: u64,
    revision: u64,
    /// Last revision of the server when it was asked last: everything up to there has to come before it is
    /// asked again.
    expected: u64,
    check: Interval,
    checks: u32,
}

struct Entries(Watch);

impl std::fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Entries")
    }
}

impl EventBus {
    /// Every entry of a bucket, with the marks of deletions that it has, and what follows them.
    ///
    /// # Errors
    /// NATS is unreachable, refuses, or falls silent in the middle.
    pub async fn follow_bucket(&self, name: &str) -> Result<(Vec<Entry>, Followed), Error> {
        if !self.is_connected() {
            return Err(Error::nats("not connected"));
        }
        let connected = connections(self.client());
        let store = self.bucket(name).await?;
        let info = store.stream.cached_info();
        let (revision, mut ended) = (info.state.last_sequence, info.state.messages == 0);
        let created_ms = info.created.unix_timestamp_nanos() / 1_000_000;
        let entries = store.watch_with_history(">").await.map_err(Error::nats)?;
        let mut check = tokio::time::interval(Duration::from_millis(CONNECTION_CHECK_MS));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut followed = Followed {
            bus: self.clone(),
            store,
            entries: Entries(entries),
            connected,
            created_unix_ms: u64::try_from(created_ms).unwrap_or_default(),
            revision,
            expected: revision,
            check,
            checks: 0,
        };
        let mut all = Vec::new();
        // A bucket without any entry says nothing.
        while !ended {
            let next = tokio::time::timeout(Duration::from_millis(SILENCE_MS), followed.entries.0.next());
            let next = next.await.map_err(Error::nats)?.transpose().map_err(Error::nats)?;
            let entry = next.ok_or_else(|| Error::nats("the watch ended"))?;
            ended = entry.seen_current;
            followed.revision = followed.revision.max(entry.revision);
            all.push(entry);
        }
        Ok((all, followed))
    }
}

impl Followed {
    /// The next change; `None` once the bucket has to be read again. It may be dropped at any time: nothing
    /// is lost.
    ///
    /// # Errors
    /// The watch fails.
    pub async fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            tokio::select! {
                entry = self.entries.0.next() => {
                    let entry = entry.transpose().map_err(Error::nats)?;
                    self.revision = self.revision.max(entry.as_ref().map_or(0, |entry| entry.revision));
                    return Ok(entry);
                }
                _ = self.check.tick() => {}
            }
            // A watch may outlive its server without saying so; a new connection gets a new watch.
            if connections(self.bus.client()) != self.connected {
                return Ok(None);
            }
            self.checks += 1;
            if self.checks.is_multiple_of(CHECKS_PER_QUESTION) && self.bus.is_connected() && !self.ask().await
            {
                return Ok(None);
            }
        }
    }

    /// Whether it is the same bucket, and everything came that it had the last time.
    async fn ask(&mut self) -> bool {
        // Where the server does not answer, its connection will say so.
        let Ok(info) = self.store.stream.get_info().await else { return true };
        let created_ms = info.created.unix_timestamp_nanos() / 1_000_000;
        let is_same = u64::try_from(created_ms) == Ok(self.created_unix_ms);
        let came = self.revision >= self.expected;
        self.expected = info.state.last_sequence;
        is_same && came
    }

    /// The bucket.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// When the bucket was created, Unix time in milliseconds. One that was lost and created again counts its
    /// revisions from 1 again.
    pub const fn created_unix_ms(&self) -> u64 {
        self.created_unix_ms
    }

    /// Revision up to which everything was read.
    pub const fn revision(&self) -> u64 {
        self.revision
    }
}
