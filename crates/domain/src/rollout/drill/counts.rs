//! What replicas count of a drill, apart from everything that they count of a version.

use serde::{Deserialize, Serialize};

use super::latencies::Latencies;
use crate::rollout::facts::{VariantFacts, WindowFacts, slow_limit_us};
use crate::rollout::strategy::Analysis;

/// What one process counts of one drill. Sums begin with the drill, or with the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DrillCounts {
    /// When the process began to count, Unix time in milliseconds.
    pub since_unix_ms: u64,
    /// Requests of the rehearsed version: copies, or those of users that met the fault.
    pub rehearsed: DrillSide,
    /// Users' requests that the stable version answered meanwhile, without those that met the fault.
    pub users: DrillSide,
    /// Copies that were not made, by reason.
    pub dropped: Vec<Missing>,
    /// Rows whose answers were compared: of a copy and of its request, or of a replayed request and its
    /// record.
    pub compared_rows: u64,
    /// How many of them differ.
    pub differing_rows: u64,
    /// How far a replay is, where there is one.
    pub replayed: Option<Replayed>,
}

/// Requests, and how they ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DrillSide {
    /// Requests that were answered.
    pub answered: u64,
    /// Answers with NaN or an infinity.
    pub non_finite: u64,
    /// Requests that failed, by outcome.
    pub failed: Vec<Missing>,
    /// Latencies of the answered ones.
    pub latencies: Latencies,
}

/// Requests that were not answered, or not copied, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Missing {
    /// `failure`, `rejected`, `overloaded` and `expired`, as the metrics of serving say it; for copies that
    /// were not made `busy` or `ensemble`.
    pub outcome: String,
    /// How many.
    pub count: u64,
    /// The message of the last one.
    pub message: String,
}

/// How far a replay of recorded requests is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Replayed {
    /// Recorded requests that were found and can be sent.
    pub found: u64,
    /// Recorded requests that cannot be sent: some of their values are not recorded.
    pub incomplete: u64,
    /// Whether all of them were sent.
    pub done: bool,
    /// Why there are none, where that is so.
    pub problem: Option<String>,
}

/// Outcomes that leave a prediction record with an error. An analysis sees those, and no others: load of the
/// replicas and impatient clients say nothing about a version.
const RECORDED: [&str; 2] = ["failure", "rejected"];

impl DrillCounts {
    /// Adds those of another replica.
    pub fn add(&mut self, other: &Self) {
        self.rehearsed.add(&other.rehearsed);
        self.users.add(&other.users);
        add(&mut self.dropped, &other.dropped);
        self.compared_rows += other.compared_rows;
        self.differing_rows += other.differing_rows;
        if other.replayed.is_some() {
            self.replayed.clone_from(&other.replayed);
        }
    }

    /// What an analysis would see, were the rehearsed version a candidate.
    pub(super) fn facts(&self, analysis: &Analysis) -> WindowFacts {
        let (stable, candidate) = (self.users.facts(), self.rehearsed.facts());
        let slow = self.rehearsed.latencies.above(slow_limit_us(analysis, stable.p95_latency_us));
        WindowFacts {
            stable,
            candidate,
            slow,
            compared_rows: self.compared_rows,
            differing_rows: self.differing_rows,
            ..WindowFacts::default()
        }
    }
}

impl DrillSide {
    /// Requests that failed.
    pub fn failures(&self) -> u64 {
        self.failed.iter().map(|failed| failed.count).sum()
    }

    fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.non_finite += other.non_finite;
        add(&mut self.failed, &other.failed);
        self.latencies.add(&other.latencies);
    }

    fn facts(&self) -> VariantFacts {
        let recorded = self.failed.iter().filter(|failed| RECORDED.contains(&failed.outcome.as_str()));
        let errors = recorded.map(|failed| failed.count).sum();
        VariantFacts {
            requests: self.answered + errors,
            errors,
            non_finite: self.non_finite,
            p50_latency_us: self.latencies.percentile_us(50),
            p95_latency_us: self.latencies.percentile_us(95),
            timed: self.latencies.count(),
            ..VariantFacts::default()
        }
    }
}

fn add(all: &mut Vec<Missing>, others: &[Missing]) {
    for other in others {
        match all.iter_mut().find(|known| known.outcome == other.outcome) {
            Some(known) => {
                known.count += other.count;
                known.message.clone_from(&other.message);
            }
            None => all.push(other.clone()),
        }
    }
}
