//! The place of a version in memory: it may be empty, and is filled again when a request asks for it.
//!
//! Requests and the manager share it. A request that finds it empty asks the manager once, however many
//! others wait, and waits with them; so a version is loaded once, however many requests need it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use slipway_inference::DropCounts;
use tokio::sync::{mpsc, watch};

use super::served::{Described, Served};
use crate::failure::{Failure, Kind};

/// Requests that may wait for one version to be loaded.
pub(crate) const MAX_WAITERS: usize = 512;
/// Longest wait for a version to be loaded, where the client does not say.
pub(crate) const LOAD_WAIT_MS: u64 = 20_000;
/// Versions whose loading may be asked for before the manager looks.
pub(crate) const DEMANDS_LIMIT: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Resident {
    digest: String,
    held: RwLock<Held>,
    last_used_ms: AtomicU64,
    waiting: AtomicUsize,
    /// Whether it is being loaded, or the manager was asked to.
    asked: AtomicBool,
    demands: mpsc::Sender<String>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Held {
    served: Option<Arc<Served>>,
    /// What stays known while it is unloaded; there since it was loaded for the first time.
    described: Option<Arc<Described>>,
    /// Why it will not come.
    refused: Option<Absent>,
    /// What earlier loads of it did not run.
    dropped: DropCounts,
}

/// Why a version is not there for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Too many wait for it.
    Crowded,
    /// It was not loaded in time.
    Late(Duration),
    /// It does not load.
    Refused(String),
    /// No table names it any more; requests that come now go elsewhere.
    Gone,
}

/// Counts a request that waits, until it is dropped.
struct Waiter<'resident>(&'resident AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Resident {
    /// An empty place, which is about to be filled.
    pub(super) fn new(digest: &str, demands: mpsc::Sender<String>) -> Self {
        Self {
            digest: digest.to_owned(),
            held: RwLock::default(),
            last_used_ms: AtomicU64::new(now_ms()),
            waiting: AtomicUsize::new(0),
            asked: AtomicBool::new(true),
            demands,
            changes: watch::Sender::new(()),
        }
    }

    /// The version, where it is in memory.
    pub(crate) fn served(&self) -> Option<Arc<Served>> {
        self.read().served.clone()
    }

    /// The same, for a request: it has been used now.
    pub(crate) fn used(&self) -> Option<Arc<Served>> {
        let served = self.served();
        if served.is_some() {
            self.last_used_ms.store(now_ms(), Ordering::Relaxed);
        }
        served
    }

    /// What is known of it, in memory or not; `None` until it was loaded for the first time.
    pub(crate) fn described(&self) -> Option<Arc<Described>> {
        self.read().described.clone()
    }

    /// Requests that were not run, since it was loaded for the first time.
    pub(crate) fn dropped(&self) -> DropCounts {
        let held = self.read();
        sum(held.dropped, held.served.as_ref().map(|served| served.dropped()).unwrap_or_default())
    }

    /// Whether a request would be turned away without having waited.
    pub(crate) fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Acquire) >= MAX_WAITERS
    }

    /// Has it loaded, if it is not there, and waits for nothing.
    pub(crate) fn ask(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) && self.demands.try_send(self.digest.clone()).is_err() {
            // The next request tries again.
            self.asked.store(false, Ordering::Release);
        }
    }

    /// The version, for a request that waits no longer than `limit`.
    ///
    /// # Errors
    /// Too many wait, it does not come in time, or it will not come.
    pub(crate) async fn wait(&self, limit: Duration) -> Result<Arc<Served>, Absent> {
        if let Some(served) = self.used() {
            return Ok(served);
        }
        let waiter = Waiter(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= MAX_WAITERS {
            return Err(Absent::Crowded);
        }
        let limit = limit.min(Duration::from_millis(LOAD_WAIT_MS));
        let loaded = async {
            let mut changes = self.changes.subscribe();
            loop {
                if let Some(served) = self.used() {
                    return Ok(served);
                }
                if let Some(absent) = self.read().refused.clone() {
                    return Err(absent);
                }
                self.ask();
                // It cannot end: the sender is ours.
                let _ = changes.changed().await;
            }
        };
        let loaded = tokio::time::timeout(limit, loaded).await;
        drop(waiter);
        loaded.unwrap_or(Err(Absent::Late(limit)))
    }

    /// Fills the place.
    pub(super) fn fill(&self, served: Arc<Served>) {
        self.last_used_ms.store(now_ms(), Ordering::Relaxed);
        self.change(|held| {
            held.described = Some(Arc::clone(&served.described));
            (held.served, held.refused) = (Some(served), None);
        });
        self.asked.store(false, Ordering::Release);
    }

    /// Empties the place; requests that have taken the version keep it.
    pub(super) fn empty(&self) -> Option<Arc<Served>> {
        let mut taken = None;
        self.change(|held| {
            taken = held.served.take();
            let counted = taken.as_ref().map(|served| served.dropped()).unwrap_or_default();
            held.dropped = sum(held.dropped, counted);
        });
        taken
    }

    /// Tells those who wait that it does not come.
    pub(super) fn refuse(&self, absent: Absent) {
        self.change(|held| held.refused = Some(absent));
    }

    /// When it was last used, or filled.
    pub(super) fn last_used_ms(&self) -> u64 {
        self.last_used_ms.load(Ordering::Relaxed)
    }

    /// Whether a request has it, or waits for it.
    pub(super) fn is_busy(&self) -> bool {
        if self.waiting.load(Ordering::Acquire) > 0 {
            return true;
        }
        let held = self.read();
        // Other owners hold it for a request; the run of a request that was cancelled may not have ended yet.
        held.served.as_ref().is_some_and(|served| Arc::strong_count(served) > 1 || served.is_busy())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        // Each change is whole before the lock goes.
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.held.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_replace(());
    }
}

impl Absent {
    /// Message for the client.
    pub(crate) fn failure(&self, deployment: &str, version: &str) -> Failure {
        match self {
            Self::Crowded => Failure::new(
                Kind::Unavailable,
                format!(
                    "version {version} of model '{deployment}' is being loaded, and {MAX_WAITERS} requests \
                     wait for it already; try again"
                ),
            ),
            Self::Late(limit) => Failure::new(
                Kind::Unavailable,
                format!(
                    "version {version} of model '{deployment}' was not loaded within {} ms; try again",
                    limit.as_millis()
                ),
            ),
            Self::Refused(reason) => Failure::new(
                Kind::LoadFailed,
                format!("version {version} of model '{deployment}' does not load: {reason}"),
            ),
            Self::Gone => Failure::new(
                Kind::Unavailable,
                format!("version {version} of model '{deployment}' has just left the traffic; try again"),
            ),
        }
    }
}

const fn sum(left: DropCounts, right: DropCounts) -> DropCounts {
    DropCounts {
        cancelled: left.cancelled + right.cancelled,
        expired: left.expired + right.expired,
        rejected: left.rejected + right.rejected,
    }
}

/// Milliseconds since the first call.
fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn however_many_wait_the_manager_is_asked_once_and_the_crowd_is_bounded() {
        let (demands, mut asked) = mpsc::channel(DEMANDS_LIMIT);
        let resident = Arc::new(Resident::new("digest", demands));
        resident.asked.store(false, Ordering::Release);
        let waiting: Vec<_> = (0..MAX_WAITERS)
            .map(|_| {
                let resident = Arc::clone(&resident);
                tokio::spawn(async move { resident.wait(Duration::from_secs(60)).await.map(|_served| ()) })
            })
            .collect();
        while !resident.is_crowded() {
            tokio::task::yield_now().await;
        }
        assert_eq!(resident.wait(Duration::from_secs(60)).await.map(|_served| ()), Err(Absent::Crowded));
        assert!(resident.is_busy());
        assert_eq!(asked.recv().await.as_deref(), Some("digest"));
        assert!(asked.try_recv().is_err(), "asked once");
        resident.refuse(Absent::Refused("it is broken".into()));
        for waited in waiting {
            assert_eq!(waited.await.unwrap(), Err(Absent::Refused("it is broken".into())));
        }
        assert!(!resident.is_busy() && !resident.is_crowded());
        assert_eq!(Absent::Crowded.failure("points", "1").kind, Kind::Unavailable);
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_he_wants() {
        let (demands, _asked) = mpsc::channel(1);
        let resident = Resident::new("digest", demands);
        let limit = Duration::from_millis(5);
        assert_eq!(resident.wait(limit).await.map(|_served| ()), Err(Absent::Late(limit)));
        assert!(!resident.is_busy());
    }
}
