//! What one version of one deployment has done, as Triton's statistics and metrics tell it. Counted without a
//! lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Batch sizes that are counted apart; of further ones only the sums are kept.
const BATCH_SIZES: usize = 64;
/// Places where one batch size may be.
const BATCH_PROBES: usize = 8;

/// Counters of one version. All of them only grow, apart from the time of the last request.
#[derive(Debug)]
pub(crate) struct VersionStats {
    success: AtomicU64,
    success_ns: AtomicU64,
    fail: AtomicU64,
    fail_ns: AtomicU64,
    queue_ns: AtomicU64,
    input_ns: AtomicU64,
    compute_ns: AtomicU64,
    output_ns: AtomicU64,
    rows: AtomicU64,
    runs: AtomicU64,
    last_unix_ms: AtomicU64,
    in_flight: AtomicU64,
    batches: Box<[BatchCounters]>,
}

/// A request that is being answered, until it is dropped.
#[must_use]
pub(crate) struct InFlight<'stats>(&'stats VersionStats);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Default for VersionStats {
    fn default() -> Self {
        Self {
            success: AtomicU64::new(0),
            success_ns: AtomicU64::new(0),
            fail: AtomicU64::new(0),
            fail_ns: AtomicU64::new(0),
            queue_ns: AtomicU64::new(0),
            input_ns: AtomicU64::new(0),
            compute_ns: AtomicU64::new(0),
            output_ns: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            last_unix_ms: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            batches: (0..BATCH_SIZES).map(|_| BatchCounters::default()).collect(),
        }
    }
}

#[derive(Debug, Default)]
struct BatchCounters {
    /// One more than the batch size; 0 while the place is free.
    taken_by: AtomicU64,
    count: AtomicU64,
    input_ns: AtomicU64,
    compute_ns: AtomicU64,
    output_ns: AtomicU64,
}

/// One run that was answered: where its time went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Run {
    /// From the request to its answer.
    pub total: Duration,
    /// Waiting for an instance.
    pub queued: Duration,
    /// Copying inputs in.
    pub prepared: Duration,
    /// In the model.
    pub computed: Duration,
    /// Copying outputs out.
    pub collected: Duration,
    /// Rows of the request.
    pub rows: u64,
    /// Rows of the run that it was part of, where this is the answer by which that run is counted.
    pub run_rows: Option<u64>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    pub success: u64,
    pub success_ns: u64,
    pub fail: u64,
    pub fail_ns: u64,
    pub queue_ns: u64,
    pub input_ns: u64,
    pub compute_ns: u64,
    pub output_ns: u64,
    pub rows: u64,
    pub runs: u64,
    pub last_unix_ms: u64,
}

/// The runs of one batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Batch {
    pub size: u64,
    pub count: u64,
    pub input_ns: u64,
    pub compute_ns: u64,
    pub output_ns: u64,
}

impl VersionStats {
    /// Counts a request as being answered.
    pub(crate) fn begun(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self)
    }

    /// Requests that are being answered.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Counts an answer.
    pub(crate) fn succeeded(&self, run: &Run, now_unix_ms: u64) {
        let (input_ns, compute_ns, output_ns) =
            (nanoseconds(run.prepared), nanoseconds(run.computed), nanoseconds(run.collected));
        self.success.fetch_add(1, Relaxed);
        self.success_ns.fetch_add(nanoseconds(run.total), Relaxed);
        self.queue_ns.fetch_add(nanoseconds(run.queued), Relaxed);
        self.input_ns.fetch_add(input_ns, Relaxed);
        self.compute_ns.fetch_add(compute_ns, Relaxed);
        self.output_ns.fetch_add(output_ns, Relaxed);
        self.rows.fetch_add(run.rows, Relaxed);
        self.last_unix_ms.store(now_unix_ms, Relaxed);
        let Some(run_rows) = run.run_rows else { return };
        self.runs.fetch_add(1, Relaxed);
        if let Some(batch) = self.batch(run_rows) {
            batch.count.fetch_add(1, Relaxed);
            batch.input_ns.fetch_add(input_ns, Relaxed);
            batch.compute_ns.fetch_add(compute_ns, Relaxed);
            batch.output_ns.fetch_add(output_ns, Relaxed);
        }
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
            input_ns: self.input_ns.load(Relaxed),
            compute_ns: self.compute_ns.load(Relaxed),
            output_ns: self.output_ns.load(Relaxed),
            rows: self.rows.load(Relaxed),
            runs: self.runs.load(Relaxed),
            last_unix_ms: self.last_unix_ms.load(Relaxed),
        }
    }

    /// The batch sizes that were counted apart, ascending.
    pub(crate) fn batches(&self) -> Vec<Batch> {
        let counted = self.batches.iter().filter_map(|batch| {
            let size = batch.taken_by.load(Relaxed).checked_sub(1)?;
            Some(Batch {
                size,
                count: batch.count.load(Relaxed),
                input_ns: batch.input_ns.load(Relaxed),
                compute_ns: batch.compute_ns.load(Relaxed),
                output_ns: batch.output_ns.load(Relaxed),
            })
        });
        let mut batches: Vec<Batch> = counted.collect();
        batches.sort_by_key(|batch| batch.size);
        batches
    }

    /// The place of a batch size, taken for it where it is new; `None` where no place is left.
    fn batch(&self, size: u64) -> Option<&BatchCounters> {
        let mark = size.checked_add(1)?;
        let first = usize::try_from(size % BATCH_SIZES as u64).ok()?;
        self.batches.iter().cycle().skip(first).take(BATCH_PROBES).find(|batch| {
            let taken_by = batch.taken_by.load(Relaxed);
            taken_by == mark
                || (taken_by == 0
                    && batch
                        .taken_by
                        .compare_exchange(0, mark, Relaxed, Relaxed)
                        .map_or_else(|other| other == mark, |_free| true))
        })
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rows: u64) -> Run {
        Run { rows, run_rows: Some(rows), computed: Duration::from_nanos(7), ..Run::default() }
    }

    #[test]
    fn batch_sizes_are_counted_apart_from_many_threads() {
        let stats = VersionStats::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|at| stats.succeeded(&run([1, 65, 8][at % 3]), 5)));
            }
        });
        let found: Vec<_> = stats.batches().iter().map(|batch| (batch.size, batch.count)).collect();
        assert_eq!(found, [(1, 4 * 334), (8, 4 * 333), (65, 4 * 333)]);
        let total = stats.snapshot();
        assert_eq!((total.success, total.compute_ns, total.last_unix_ms), (4_000, 28_000, 5));
    }

    #[test]
    fn more_batch_sizes_than_places_are_still_in_the_sums() {
        let stats = VersionStats::default();
        (0..10_000).for_each(|rows| stats.succeeded(&run(rows), 0));
        assert_eq!(stats.batches().len(), BATCH_SIZES);
        assert_eq!(stats.snapshot().success, 10_000);
    }
}
