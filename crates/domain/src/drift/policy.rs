//! When a series of windows becomes an alarm, and when the alarm ends.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::score::WindowScores;
use crate::{Invalid, invalid::ensure};

const MAX_CONSECUTIVE: u32 = 1_000;
const MAX_COOL_DOWN_S: f64 = 30.0 * 24.0 * 3_600.0;

/// How patient a monitor is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Windows in a row that have to agree, both to detect drift and to clear it.
    pub consecutive_windows: u32,
    /// After a detection, the time for which no alarm is raised again and no action is repeated, in seconds.
    /// What drifts in addition is reported all the same.
    pub cool_down_s: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { consecutive_windows: 2, cool_down_s: 3_600.0 }
    }
}

impl Policy {
    /// Checks every field; the complaint names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        ensure((1..=MAX_CONSECUTIVE).contains(&self.consecutive_windows), "consecutive_windows", || {
            format!("must be 1 to {MAX_CONSECUTIVE}, is {}", self.consecutive_windows)
        })?;
        ensure((0.0..=MAX_COOL_DOWN_S).contains(&self.cool_down_s), "cool_down_s", || {
            format!("must be 0 to {MAX_COOL_DOWN_S}, is {}", self.cool_down_s)
        })
    }
}

/// State of a monitor between windows. Store it with the window that produced it; reset it ([`Default`]) when
/// the baseline changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorState {
    /// Whether drift has been detected and not cleared.
    pub(super) drifted: bool,
    /// The last windows in a row that say otherwise than `drifted`, oldest first, no more than the policy
    /// asks for.
    pub(super) dissenting_windows: Vec<u64>,
    /// When drift was last detected, Unix time in milliseconds.
    pub(super) detected_at_unix_ms: Option<u64>,
    /// Last window that was taken in; older ones, and this one again, change nothing.
    pub(super) last_window: Option<u64>,
    /// While drifted: the parts ([`WindowScores::drifted_parts`]) that were reported.
    pub(super) reported: BTreeSet<String>,
    /// While drifted: parts that were not, with the last windows in a row in which they drifted.
    pub(super) rising: BTreeMap<String, Vec<u64>>,
}

impl MonitorState {
    /// Whether drift has been detected and not cleared.
    pub fn is_drifted(&self) -> bool {
        self.drifted
    }

    /// When drift was last detected, Unix time in milliseconds.
    pub fn detected_at_unix_ms(&self) -> Option<u64> {
        self.detected_at_unix_ms
    }

    /// Whether no window has been judged since the start or the last baseline.
    pub fn is_new(&self) -> bool {
        self.last_window.is_none()
    }

    /// While drifted: the parts that were reported.
    pub fn reported(&self) -> &BTreeSet<String> {
        &self.reported
    }

    /// The state that follows when the baseline is replaced: drift from the previous one is over. The time of
    /// the last detection stays, so that a new baseline does not cut a cool-down short.
    #[must_use]
    pub fn rebased(&self) -> Self {
        Self { detected_at_unix_ms: self.detected_at_unix_ms, ..Self::default() }
    }
}

/// The event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorAction {
    /// Drift began; its actions are due.
    Detected {
        /// The windows that led to it, oldest first.
        windows: Vec<u64>,
    },
    /// More drifts than was reported.
    Widened {
        /// The windows that led to it, oldest first.
        windows: Vec<u64>,
        /// The further parts.
        parts: Vec<String>,
        /// Whether actions are due: the cool-down is over.
        acts: bool,
    },
    /// Drift ended.
    Cleared {
        /// The windows that led to it, oldest first.
        windows: Vec<u64>,
    },
}

/// Takes one window in. A window that could not be judged changes nothing.
pub fn step(
    policy: &Policy,
    state: &MonitorState,
    window: u64,
    scores: &WindowScores,
    now_unix_ms: u64,
) -> (MonitorState, Vec<MonitorAction>) {
    let mut next = state.clone();
    if state.last_window.is_some_and(|last| window <= last) {
        return (next, Vec::new());
    }
    next.last_window = Some(window);
    if !scores.conclusive {
        return (next, Vec::new());
    }
    let wanted = usize::try_from(policy.consecutive_windows.max(1)).unwrap_or(usize::MAX);
    if scores.drifted == state.drifted {
        next.dissenting_windows.clear();
        let cooling = is_cooling(policy, state, now_unix_ms);
        let widened = if scores.drifted { widen(&mut next, window, scores, wanted) } else { None };
        if widened.is_some() && !cooling {
            next.detected_at_unix_ms = Some(now_unix_ms);
        }
        let action =
            widened.map(|(windows, parts)| MonitorAction::Widened { windows, parts, acts: !cooling });
        return (next, action.into_iter().collect());
    }
    next.dissenting_windows.push(window);
    let surplus = next.dissenting_windows.len().saturating_sub(wanted);
    next.dissenting_windows.drain(..surplus);
    let cooling = scores.drifted && is_cooling(policy, state, now_unix_ms);
    if next.dissenting_windows.len() < wanted || cooling {
        return (next, Vec::new());
    }
    let windows = std::mem::take(&mut next.dissenting_windows);
    next.drifted = scores.drifted;
    next.rising.clear();
    next.reported =
        if scores.drifted { scores.drifted_parts().into_iter().collect() } else { BTreeSet::new() };
    let action = if scores.drifted {
        next.detected_at_unix_ms = Some(now_unix_ms);
        MonitorAction::Detected { windows }
    } else {
        MonitorAction::Cleared { windows }
    };
    (next, vec![action])
}

/// Parts that have drifted in as many windows in a row as are wanted and were not reported; and the windows.
fn widen(
    state: &mut MonitorState,
    window: u64,
    scores: &WindowScores,
    wanted: usize,
) -> Option<(Vec<u64>, Vec<String>)> {
    let drifted: BTreeSet<String> = scores.drifted_parts().into_iter().collect();
    state.rising.retain(|part, _| drifted.contains(part));
    for part in drifted.difference(&state.reported) {
        state.rising.entry(part.clone()).or_default().push(window);
    }
    let due: Vec<String> = state
        .rising
        .iter()
        .filter(|(_, windows)| windows.len() >= wanted)
        .map(|(part, _)| part.clone())
        .collect();
    let windows = due.first().and_then(|part| state.rising.get(part).cloned())?;
    for part in &due {
        state.rising.remove(part);
    }
    state.reported.extend(due.iter().cloned());
    Some((windows, due))
}

fn is_cooling(policy: &Policy, state: &MonitorState, now_unix_ms: u64) -> bool {
    let cool_down_ms = (policy.cool_down_s * 1_000.0).max(0.0) as u64;
    state.detected_at_unix_ms.is_some_and(|at| now_unix_ms < at.saturating_add(cool_down_ms))
}
