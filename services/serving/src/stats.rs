//! What one version of one deployment has done, as Triton's statistics and metrics tell it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counters of one version. All of them only grow, apart from the time of the last request.
#[derive(Debug, Default)]
pub(crate) struct VersionStats {
    success: AtomicU64,
    success_ns: AtomicU64,
    fail: AtomicU64,
    fail_ns: AtomicU64,
    queue_ns: AtomicU64,
    compute_ns: AtomicU64,
    rows: AtomicU64,
    last_unix_ms: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    pub success: u64,
    pub success_ns: u64,
    pub fail: u64,
    pub fail_ns: u64,
    pub queue_ns: u64,
    pub compute_ns: u64,
    pub rows: u64,
    pub last_unix_ms: u64,
}

impl VersionStats {
    /// Counts an answer.
    pub(crate) fn succeeded(
        &self,
        total: Duration,
        queued: Duration,
        computed: Duration,
        rows: u64,
        now_unix_ms: u64,
    ) {
        self.success.fetch_add(1, Relaxed);
        self.success_ns.fetch_add(nanoseconds(total), Relaxed);
        self.queue_ns.fetch_add(nanoseconds(queued), Relaxed);
        self.compute_ns.fetch_add(nanoseconds(computed), Relaxed);
        self.rows.fetch_add(rows, Relaxed);
        self.last_unix_ms.store(now_unix_ms, Relaxed);
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, total: Duration) {
        self.fail.fetch_add(1, Relaxed);
        self.fail_ns.fetch_add(nanoseconds(total), Relaxed);
    }

    /// The counters now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            success: self.success.load(Relaxed),
            success_ns: self.success_ns.load(Relaxed),
            fail: self.fail.load(Relaxed),
            fail_ns: self.fail_ns.load(Relaxed),
            queue_ns: self.queue_ns.load(Relaxed),
            compute_ns: self.compute_ns.load(Relaxed),
            rows: self.rows.load(Relaxed),
            last_unix_ms: self.last_unix_ms.load(Relaxed),
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
