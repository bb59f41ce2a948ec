//! Laws of rollouts.

mod analysis;
mod laws;
mod walks;

use super::*;
use crate::traffic::{Target, TrafficTable};

fn target(version: u32) -> Target {
    Target { version: version.to_string(), digest: format!("sha256:{version}") }
}

fn strategy(steps: &[(u8, f64)]) -> Strategy {
    Strategy {
        steps: steps
            .iter()
            .map(|(weight_percent, hold_s)| CanaryStep { weight_percent: *weight_percent, hold_s: *hold_s })
            .collect(),
        ..Strategy::default()
    }
}

fn new_rollout(from: Option<u32>, strategy: Strategy) -> Rollout {
    let new = NewRollout {
        id: "r1".into(),
        deployment: "cancer".into(),
        from: from.map(target),
        to: target(2),
        strategy,
    };
    Rollout::start(new, 0).expect("the strategy is valid").0
}

/// Facts of a candidate that keeps every limit.
fn good_facts() -> WindowFacts {
    let side = VariantFacts {
        requests: 200,
        errors: 0,
        non_finite: 0,
        p50_latency_us: 900,
        p95_latency_us: 2_000,
        timed: 200,
        labelled: 100,
        correct: 95,
    };
    WindowFacts {
        stable: side,
        candidate: side,
        compared_rows: 100,
        differing_rows: 3,
        ..WindowFacts::default()
    }
}

/// Facts of a candidate whose answers are wrong.
fn bad_facts() -> WindowFacts {
    let good = good_facts();
    WindowFacts { candidate: VariantFacts { correct: 50, ..good.candidate }, ..good }
}

fn ready(now_unix_ms: u64) -> Observation {
    Observation {
        now_unix_ms,
        target: Readiness::Ready,
        previous: Readiness::Ready,
        table: TableState::Applied,
        kill_switch_on: false,
        facts: good_facts(),
        command: None,
    }
}

fn writes(actions: &[Action]) -> Vec<Intent> {
    actions
        .iter()
        .filter_map(|action| if let Action::WriteTraffic(intent) = action { Some(*intent) } else { None })
        .collect()
}

fn events(actions: &[Action]) -> Vec<EventKind> {
    actions
        .iter()
        .filter_map(|action| if let Action::PublishEvent { kind, .. } = action { Some(*kind) } else { None })
        .collect()
}

fn old_table() -> TrafficTable {
    TrafficTable { stable: Some(target(1)), ..TrafficTable::empty("cancer", "cancer") }
}
