//! When a series of windows becomes an alarm, and when the alarm ends.

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
    /// After a detection no other is raised for so long, seconds.
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

/// What a monitor remembers between windows. Store it with the window that it came from; begin anew ([`Default`]) when the
/// baseline changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorState {
    /// Whether drift has been detected and not cleared.
    pub drifted: bool,
    /// The last windows in a row that say otherwise than `drifted`, oldest first, no more than the policy asks for.
    pub dissenting_windows: Vec<u64>,
    /// When drift was last detected, Unix time in milliseconds.
    pub detected_at_unix_ms: Option<u64>,
    /// Last window that was taken in; older ones, and this one again, change nothing.
    pub last_window: Option<u64>,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorAction {
    /// Drift began; its actions are due.
    Detected {
        /// The windows that led to it, oldest first.
        windows: Vec<u64>,
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
    if scores.drifted == state.drifted {
        next.dissenting_windows.clear();
        return (next, Vec::new());
    }
    let wanted = usize::try_from(policy.consecutive_windows.max(1)).unwrap_or(usize::MAX);
    next.dissenting_windows.push(window);
    let surplus = next.dissenting_windows.len().saturating_sub(wanted);
    next.dissenting_windows.drain(..surplus);
    let cooling = scores.drifted && is_cooling(policy, state, now_unix_ms);
    if next.dissenting_windows.len() < wanted || cooling {
        return (next, Vec::new());
    }
    let windows = std::mem::take(&mut next.dissenting_windows);
    next.drifted = scores.drifted;
    let action = if scores.drifted {
        next.detected_at_unix_ms = Some(now_unix_ms);
        MonitorAction::Detected { windows }
    } else {
        MonitorAction::Cleared { windows }
    };
    (next, vec![action])
}

fn is_cooling(policy: &Policy, state: &MonitorState, now_unix_ms: u64) -> bool {
    let cool_down_ms = (policy.cool_down_s * 1_000.0).max(0.0) as u64;
    state.detected_at_unix_ms.is_some_and(|at| now_unix_ms < at.saturating_add(cool_down_ms))
}
