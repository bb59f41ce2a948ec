//! The drills of this replica: what it counts of them, apart from everything that it counts of a version.
//!
//! A drill stands in the traffic table of its deployment, with its end: it ends here at that time, whoever is
//! reachable then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slipway_api::traffic::{Drill, DrillCounts, DrillReport, TrafficTable};
use slipway_domain::rollout::drill::{BUCKETS, DrillSide, Latencies, Missing, Replayed, bucket_of};
use slipway_runtime::clock::now_unix_ms;

use crate::metrics::{Outcome, outcome_name};

/// Drills of more deployments are not reported. They run all the same.
const MAX_REPORTED: usize = 20;
/// Outcomes of requests that fail.
const FAILURES: [Outcome; 4] = [Outcome::Failure, Outcome::Rejected, Outcome::Overloaded, Outcome::Expired];

/// The drills by deployment.
#[derive(Debug, Default)]
pub(crate) struct Drills(Mutex<BTreeMap<String, Arc<Counters>>>);

/// What is counted of one drill.
#[derive(Debug)]
pub(crate) struct Counters {
    /// The drill.
    pub(crate) drill: Drill,
    deployment: String,
    since_unix_ms: u64,
    /// Copies, or users' requests that met the fault.
    pub(crate) rehearsed: Side,
    /// Users' requests that did not.
    pub(crate) users: Side,
    /// Copies that were not made.
    busy: AtomicU64,
    ensembles: AtomicU64,
    compared_rows: AtomicU64,
    differing_rows: AtomicU64,
    replayed: Mutex<Option<Replayed>>,
    is_over: AtomicBool,
}

/// Requests, and how they ended.
#[derive(Debug)]
pub(crate) struct Side {
    answered: AtomicU64,
    non_finite: AtomicU64,
    /// In the order of [`FAILURES`]: how many, and the message of the last one.
    failed: Mutex<[(u64, String); FAILURES.len()]>,
    latencies: Box<[AtomicU64]>,
}

/// Why a copy was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotCopied {
    /// Users' requests have the machine.
    Busy,
    /// Its steps would be counted as requests of the deployments that they call.
    Ensemble,
}

impl Drills {
    /// The counters of the drill that a table names, while it runs.
    pub(crate) fn running(&self, table: &TrafficTable, now_unix_ms: u64) -> Option<Arc<Counters>> {
        let drill = table.drill.as_ref().filter(|drill| drill.is_running(now_unix_ms))?;
        let mut all = self.lock();
        if let Some(known) = all.get(&table.deployment).filter(|known| known.drill.id == drill.id) {
            return Some(Arc::clone(known));
        }
        let counters = Arc::new(Counters::begin(drill, &table.deployment, now_unix_ms));
        if let Some(before) = all.insert(table.deployment.clone(), Arc::clone(&counters)) {
            before.end();
        }
        Some(counters)
    }

    /// What the rollout controller receives. What no table names any more is forgotten.
    pub(crate) fn reports<'route>(
        &self,
        tables: impl Iterator<Item = &'route TrafficTable>,
    ) -> Vec<DrillReport> {
        let now = now_unix_ms();
        let mut named = BTreeSet::new();
        for (table, drill) in tables.filter_map(|table| Some((table, table.drill.as_ref()?))) {
            // It has begun, also where no request has come yet.
            let _ = self.running(table, now);
            named.insert(drill.id.as_str());
        }
        let mut all = self.lock();
        all.retain(|_deployment, counters| {
            let is_named = named.contains(counters.drill.id.as_str());
            if !is_named || !counters.drill.is_running(now) {
                counters.end();
            }
            is_named
        });
        all.values().take(MAX_REPORTED).map(|counters| counters.report()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Counters>>> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    fn begin(drill: &Drill, deployment: &str, now_unix_ms: u64) -> Self {
        let Drill { id, fault, target, percent, ends_at_unix_ms, .. } = drill;
        tracing::info!(deployment, drill_id = id, ?fault, ?target, percent, ends_at_unix_ms, "drill began");
        Self {
            drill: drill.clone(),
            deployment: deployment.to_owned(),
            since_unix_ms: now_unix_ms,
            rehearsed: Side::new(),
            users: Side::new(),
            busy: AtomicU64::new(0),
            ensembles: AtomicU64::new(0),
            compared_rows: AtomicU64::new(0),
            differing_rows: AtomicU64::new(0),
            replayed: Mutex::new(None),
            is_over: AtomicBool::new(false),
        }
    }

    fn end(&self) {
        if self.is_over.swap(true, Relaxed) {
            return;
        }
        let seen = self.rehearsed.snapshot();
        let (answered, failed) = (seen.answered, seen.failures());
        tracing::info!(
            deployment = self.deployment,
            drill_id = self.drill.id,
            answered,
            failed,
            "drill ended"
        );
    }

    /// Counts a copy that was not made.
    pub(crate) fn not_copied(&self, why: NotCopied) {
        match why {
            NotCopied::Busy => self.busy.fetch_add(1, Relaxed),
            NotCopied::Ensemble => self.ensembles.fetch_add(1, Relaxed),
        };
    }

    /// Counts rows whose answers were compared.
    pub(crate) fn compared(&self, rows: u64, differing: u64) {
        self.compared_rows.fetch_add(rows, Relaxed);
        self.differing_rows.fetch_add(differing, Relaxed);
    }

    /// Shows how far a replay is.
    pub(crate) fn replayed(&self, replayed: Replayed) {
        *self.replayed.lock().unwrap_or_else(PoisonError::into_inner) = Some(replayed);
    }

    fn report(&self) -> DrillReport {
        let not_copied = [
            ("busy", &self.busy, "users' requests had the machine"),
            ("ensemble", &self.ensembles, "ensembles are not copied"),
        ];
        let not_copied = not_copied.into_iter().map(|(outcome, count, message)| Missing {
            outcome: outcome.to_owned(),
            count: count.load(Relaxed),
            message: message.to_owned(),
        });
        let counts = DrillCounts {
            since_unix_ms: self.since_unix_ms,
            rehearsed: self.rehearsed.snapshot(),
            users: self.users.snapshot(),
            dropped: not_copied.filter(|dropped| dropped.count > 0).collect(),
            compared_rows: self.compared_rows.load(Relaxed),
            differing_rows: self.differing_rows.load(Relaxed),
            replayed: self.replayed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        DrillReport { deployment: self.deployment.clone(), drill_id: self.drill.id.clone(), counts }
    }
}

impl Side {
    fn new() -> Self {
        Self {
            answered: AtomicU64::new(0),
            non_finite: AtomicU64::new(0),
            failed: Mutex::default(),
            latencies: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Counts an answer, and whether it has NaN or infinities.
    pub(crate) fn answered(&self, took: Duration, non_finite: bool) {
        self.answered.fetch_add(1, Relaxed);
        self.non_finite.fetch_add(u64::from(non_finite), Relaxed);
        let latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.latencies.get(bucket_of(latency_us)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// Counts a request that failed.
    pub(crate) fn failed(&self, outcome: Outcome, message: &str) {
        let Some(place) = FAILURES.iter().position(|failure| *failure == outcome) else { return };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed[place].0 += 1;
        if failed[place].1 != message {
            message.clone_into(&mut failed[place].1);
        }
    }

    fn snapshot(&self) -> DrillSide {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let failed = FAILURES.iter().zip(failed).map(|(outcome, (count, message))| Missing {
            outcome: outcome_name(*outcome).to_owned(),
            count,
            message,
        });
        DrillSide {
            answered: self.answered.load(Relaxed),
            non_finite: self.non_finite.load(Relaxed),
            failed: failed.filter(|failed| failed.count > 0).collect(),
            latencies: Latencies::of(self.latencies.iter().map(|bucket| bucket.load(Relaxed))),
        }
    }
}

#[cfg(test)]
mod tests {
    use slipway_api::traffic::{DrillTarget, Fault};

    use super::*;

    fn table(id: &str, ends_at_unix_ms: u64) -> TrafficTable {
        let fault = Some(Fault::Errors);
        let target = DrillTarget::Copies;
        let drill = Drill { id: id.into(), fault, replay: None, target, percent: 100, ends_at_unix_ms };
        TrafficTable { drill: Some(drill), ..TrafficTable::empty("d", "m") }
    }

    #[test]
    fn a_drill_is_counted_until_its_end_and_apart_from_the_next_one() {
        let drills = Drills::default();
        assert!(drills.running(&TrafficTable::empty("d", "m"), 0).is_none());
        let first = drills.running(&table("1", 100), 10).unwrap();
        first.rehearsed.answered(Duration::from_millis(2), true);
        first.rehearsed.failed(Outcome::Failure, "the model failed");
        first.not_copied(NotCopied::Busy);
        let again = drills.running(&table("1", 100), 99).unwrap();
        let counts = again.report().counts;
        assert_eq!(
            (counts.rehearsed.answered, counts.rehearsed.non_finite, counts.since_unix_ms),
            (1, 1, 10)
        );
        assert_eq!(counts.rehearsed.failed[0].outcome, "failure");
        assert_eq!((counts.dropped[0].outcome.as_str(), counts.dropped[0].count), ("busy", 1));
        assert!(drills.running(&table("1", 100), 100).is_none(), "it is over, whoever says nothing");
        let second = drills.running(&table("2", 200), 100).unwrap();
        assert_eq!(second.report().counts.rehearsed, DrillSide::default());
        // What no route names is forgotten.
        assert_eq!(drills.reports(std::iter::empty()), []);
    }
}
