//! What happened since a step began: counts and latencies of both versions.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::shift::{Prediction, SameInputs, Shift, ShiftFacts};
use super::side::Side;
use super::strategy::Analysis;

/// Latencies kept of each version; older ones make room.
const MAX_LATENCIES: usize = 4_096;
/// Differences of latency below this are noise of the machine, microseconds.
pub(super) const LATENCY_SLACK_US: u64 = 5_000;

/// What one version did since the step began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VariantFacts {
    /// Requests that it ran: answers, and for the new version also copies.
    pub requests: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How many of them were answered with NaN or an infinity.
    pub non_finite: u64,
    /// Median latency of the successful ones, microseconds.
    pub p50_latency_us: u64,
    /// 95th percentile of it, microseconds.
    pub p95_latency_us: u64,
    /// Latencies that the percentiles are of.
    pub timed: u64,
    /// Rows whose label came.
    pub labelled: u64,
    /// How many of them were predicted right.
    pub correct: u64,
}

/// What happened since the step began.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WindowFacts {
    /// The version that served before.
    pub stable: VariantFacts,
    /// The version being rolled out, whether it answered or saw a copy.
    pub candidate: VariantFacts,
    /// How many of the candidate's timed requests were slower than stable's p95 allows; see
    /// [`FactsCollector::facts`].
    pub slow: u64,
    /// Rows that both versions ran.
    pub compared_rows: u64,
    /// How many of them they predict differently.
    pub differing_rows: u64,
    /// Distinct inputs that both versions answered, each its own requests; classes only.
    pub same_inputs: u64,
    /// How many of them they predict differently.
    pub same_inputs_differing: u64,
    /// How the distributions of the predictions compare.
    pub shift: ShiftFacts,
    /// What the records leave out.
    pub records: RecordFacts,
    /// Rules send some requests to a version by their headers, so that the two versions see different
    /// requests.
    pub ruled: bool,
}

/// What the records that facts are made of leave out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordFacts {
    /// Share of requests that is recorded, the smallest seen, in percent; `None` where all are.
    pub sample_percent: Option<f64>,
    /// Requests whose recorded predictions are empty: redacted, or too large to be recorded.
    pub without_predictions: u64,
    /// Rows whose records serving replicas dropped because their queue to NATS was full.
    pub dropped_rows: u64,
}

/// Gathers [`WindowFacts`] from records and labels, in bounded memory. Make a new one at each
/// [`Action::BeginWindow`](super::Action::BeginWindow).
#[derive(Debug, Clone, Default)]
pub struct FactsCollector {
    stable: Tally,
    candidate: Tally,
    compared_rows: u64,
    differing_rows: u64,
    shift: Shift,
    same_inputs: SameInputs,
    records: RecordFacts,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    facts: VariantFacts,
    latencies_us: VecDeque<u64>,
}

impl FactsCollector {
    /// Counts one request that a version ran, `failed` or after `latency_us`.
    pub fn request(&mut self, side: Side, latency_us: u64, failed: bool) {
        let tally = self.tally(side);
        tally.facts.requests += 1;
        if failed {
            tally.facts.errors += 1;
            return;
        }
        if tally.latencies_us.len() == MAX_LATENCIES {
            tally.latencies_us.pop_front();
        }
        tally.latencies_us.push_back(latency_us);
    }

    /// Counts a request that a version answered with NaN or an infinity.
    pub fn non_finite(&mut self, side: Side) {
        self.tally(side).facts.non_finite += 1;
    }

    /// Takes the predictions of one request, one for each row, for the comparison of distributions.
    pub fn predicted(&mut self, side: Side, predictions: &[Prediction]) {
        self.shift.request(side, predictions);
    }

    /// Takes the prediction of a row whose input has this hash.
    pub fn predicted_for(&mut self, side: Side, input_hash: u64, prediction: &Prediction) {
        self.same_inputs.row(side, input_hash, prediction);
    }

    /// What the records leave out, to be kept up to date by the reader.
    pub fn records(&mut self) -> &mut RecordFacts {
        &mut self.records
    }

    /// Counts rows that both versions ran.
    pub fn compared(&mut self, rows: u64, differing: u64) {
        self.compared_rows += rows;
        self.differing_rows += differing.min(rows);
    }

    /// Counts rows whose label came.
    pub fn labelled(&mut self, side: Side, rows: u64, correct: u64) {
        let facts = &mut self.tally(side).facts;
        facts.labelled += rows;
        facts.correct += correct.min(rows);
    }

    /// The facts so far. A request of the candidate is slow where it took longer than `max_p95_latency_ratio`
    /// times stable's p95 and at least 5 ms more.
    pub fn facts(&self, analysis: &Analysis) -> WindowFacts {
        let stable = self.stable.summary();
        let limit = slow_limit_us(analysis, stable.p95_latency_us);
        let slow = self.candidate.latencies_us.iter().filter(|latency| **latency > limit).count();
        WindowFacts {
            stable,
            candidate: self.candidate.summary(),
            slow: slow as u64,
            compared_rows: self.compared_rows,
            differing_rows: self.differing_rows,
            same_inputs: self.same_inputs.counts().0,
            same_inputs_differing: self.same_inputs.counts().1,
            shift: self.shift.facts(),
            records: self.records.clone(),
            ruled: false,
        }
    }

    fn tally(&mut self, side: Side) -> &mut Tally {
        match side {
            Side::Stable => &mut self.stable,
            Side::Candidate => &mut self.candidate,
        }
    }
}

impl Tally {
    fn summary(&self) -> VariantFacts {
        let mut sorted: Vec<u64> = self.latencies_us.iter().copied().collect();
        sorted.sort_unstable();
        VariantFacts {
            p50_latency_us: percentile(&sorted, 50),
            p95_latency_us: percentile(&sorted, 95),
            timed: sorted.len() as u64,
            ..self.facts
        }
    }
}

/// Latency above which a candidate's request is slow, microseconds.
pub(super) fn slow_limit_us(analysis: &Analysis, stable_p95_us: u64) -> u64 {
    let scaled = (stable_p95_us as f64 * analysis.max_p95_latency_ratio) as u64;
    scaled.max(stable_p95_us.saturating_add(LATENCY_SLACK_US))
}

/// Nearest-rank percentile; 0 of nothing.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_count_what_was_told() {
        let mut collector = FactsCollector::default();
        for latency in 1..=100 {
            collector.request(Side::Stable, latency * 100, false);
            collector.request(Side::Candidate, latency * 1_000, false);
        }
        collector.request(Side::Candidate, 0, true);
        collector.compared(8, 2);
        collector.labelled(Side::Candidate, 10, 7);
        let facts = collector.facts(&Analysis::default());
        assert_eq!((facts.stable.p50_latency_us, facts.stable.p95_latency_us), (5_000, 9_500));
        assert_eq!((facts.candidate.requests, facts.candidate.errors, facts.candidate.timed), (101, 1, 100));
        // Three times 9.5 ms: the candidate's 29 to 100 ms.
        assert_eq!(facts.slow, 72);
        assert_eq!((facts.compared_rows, facts.differing_rows), (8, 2));
        assert_eq!((facts.candidate.labelled, facts.candidate.correct), (10, 7));
    }

    #[test]
    fn latencies_are_bounded() {
        let mut collector = FactsCollector::default();
        for latency in 0..10_000 {
            collector.request(Side::Candidate, latency, false);
        }
        let facts = collector.facts(&Analysis::default());
        assert_eq!((facts.candidate.requests, facts.candidate.timed), (10_000, MAX_LATENCIES as u64));
        assert_eq!(facts.stable, VariantFacts::default());
    }
}
