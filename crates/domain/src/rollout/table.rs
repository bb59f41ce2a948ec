//! From the state of a rollout to its traffic table.

use super::{action::Intent, state::Rollout};
use crate::traffic::{Shadow, Target, TrafficTable, Weighted};

/// The table that the rollout's state asks for. Everything that is not the rollout's business comes from
/// `previous`, the deployment's table so far ([`TrafficTable::empty`] before the first), whose revision it
/// follows by one.
///
/// Compare with [`TrafficTable::routes_like`] before writing: planning the same state again gives the same
/// routing.
pub fn plan_table(rollout: &Rollout, previous: &TrafficTable, now_unix_ms: u64) -> TrafficTable {
    let kept_warm =
        previous.warm.iter().filter(|warm| **warm != rollout.to && Some(*warm) != rollout.from.as_ref());
    let kept_warm: Vec<Target> = kept_warm.cloned().collect();
    let table = TrafficTable {
        revision: previous.revision + 1,
        stable: rollout.from.clone(),
        candidates: Vec::new(),
        shadows: Vec::new(),
        warm: kept_warm,
        // Its copies of the stable version and the rollout's shadows would compete, and its faults would be
        // taken for those of a version.
        drill: None,
        decided_at_unix_ms: now_unix_ms,
        ..previous.clone()
    };
    match rollout.intent() {
        Intent::Prepare => {
            let warm = std::iter::once(rollout.to.clone()).chain(table.warm).collect();
            TrafficTable { warm, ..table }
        }
        Intent::Canary { weight_percent, shadow_percent } => TrafficTable {
            candidates: vec![Weighted { target: rollout.to.clone(), weight_percent }],
            shadows: (shadow_percent > 0)
                .then(|| Shadow { target: rollout.to.clone(), sample_percent: shadow_percent })
                .into_iter()
                .collect(),
            ..table
        },
        Intent::AllToNew => TrafficTable {
            stable: Some(rollout.to.clone()),
            warm: rollout.from.iter().cloned().collect(),
            ..table
        },
        Intent::AllToStable => table,
    }
}
