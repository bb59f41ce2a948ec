//! What becomes of a drill.

use super::counts::DrillCounts;
use super::state::{Drill, DrillEnd, DrillEnded, DrillVerdict, Noticed};
use crate::rollout::{Strategy, Verdict, analyse};

/// Replicas report what they counted last within this time after the end, milliseconds.
pub const REPORT_GRACE_MS: u64 = 3_000;
/// Runs of replicas whose counts are kept.
const MAX_RUNS: usize = 1_000;

/// What is known of a drill now.
#[derive(Debug, Clone, Default)]
pub struct DrillSeen {
    /// Unix time in milliseconds.
    pub now_unix_ms: u64,
    /// The deployment's default strategy, whose analysis judges.
    pub strategy: Strategy,
    /// What replicas report, by their name.
    pub reports: Vec<(String, DrillCounts)>,
    /// Why it has to end now, where it has to.
    pub ends: Option<(DrillEnd, String)>,
}

/// The drill after what was seen. Pure: the same drill and observation give the same result. One that has
/// ended stays as it is.
pub fn step(drill: &Drill, seen: &DrillSeen) -> Drill {
    let mut next = drill.clone();
    if next.ended.is_some() {
        return next;
    }
    for (replica, counts) in &seen.reports {
        let run = format!("{replica}/{}", counts.since_unix_ms);
        if next.counted.contains_key(&run) || next.counted.len() < MAX_RUNS {
            next.counted.insert(run, counts.clone());
        }
    }
    let counts = next.counts();
    judge(&mut next, &counts, seen);
    let is_over = seen.now_unix_ms >= next.ends_at_unix_ms.saturating_add(REPORT_GRACE_MS);
    let is_replayed = counts.replayed.is_some_and(|replayed| replayed.done);
    let ended = match &seen.ends {
        Some((how, reason)) => Some((*how, reason.clone())),
        None => (is_over || is_replayed).then(|| (DrillEnd::Completed, String::new())),
    };
    next.ended = ended.map(|(how, reason)| DrillEnded {
        at_unix_ms: seen.now_unix_ms.min(next.ends_at_unix_ms),
        how,
        reason,
    });
    next
}

/// Judges what was counted as that of a candidate.
fn judge(next: &mut Drill, counts: &DrillCounts, seen: &DrillSeen) {
    let analysed = analyse(&seen.strategy, &counts.facts(&seen.strategy.analysis));
    if analysed.verdict == Verdict::Fail && next.noticed.is_none() {
        let after_ms = seen.now_unix_ms.saturating_sub(next.began_at_unix_ms);
        next.noticed = Some(Noticed { after_ms, reason: analysed.reason.clone() });
    }
    next.verdict = Some(DrillVerdict {
        verdict: analysed.verdict,
        reason: analysed.reason,
        clauses: analysed.evidence.clauses,
    });
}
