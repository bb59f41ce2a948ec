//! Monitors, windows, verdicts and actions as REST clients get them.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::spec::MonitorSpec;
use crate::store::actions::ActionRow;
use crate::store::monitors::Monitor;
use crate::store::windows::{VerdictRow, WindowRow};

/// A monitor and its state.
#[derive(Debug, Serialize)]
pub(crate) struct MonitorBody {
    name: String,
    deployment: String,
    model: String,
    /// `waiting_for_baseline`, `watching` or `drifted`.
    state: String,
    /// Why it is in that state, for people.
    reason: String,
    baseline_version: Option<String>,
    /// Whether the baseline is the deployment's stable version, also after promotions.
    follows_stable: bool,
    windows_closed: i64,
    /// Rows of the window that is being filled.
    open_window: Option<Value>,
    deployment_id: Option<String>,
    /// While drifted: the columns and predictions that were reported.
    drifted_parts: BTreeSet<String>,
    detected_at_unix_ms: Option<u64>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    spec: MonitorSpec,
}

impl From<Monitor> for MonitorBody {
    fn from(monitor: Monitor) -> Self {
        Self {
            drifted_parts: monitor.policy_state.reported().clone(),
            detected_at_unix_ms: monitor.policy_state.detected_at_unix_ms(),
            name: monitor.name,
            deployment: monitor.deployment,
            model: monitor.model,
            state: monitor.status,
            reason: monitor.reason,
            baseline_version: monitor.baseline_version,
            follows_stable: monitor.follows_stable,
            windows_closed: monitor.window_sequence,
            open_window: monitor.open_window,
            deployment_id: monitor.deployment_id.filter(|id| !id.is_empty()),
            created_at: monitor.created_at,
            updated_at: monitor.updated_at,
            spec: monitor.spec.0,
        }
    }
}

/// A closed window with its scores.
#[derive(Debug, Serialize)]
pub(crate) struct WindowBody {
    sequence: i64,
    opened_at: DateTime<Utc>,
    closed_at: DateTime<Utc>,
    rows: i64,
    drifted: bool,
    baseline_version: String,
    /// Rows whose records had left the stream before they were read.
    rows_lost: i64,
    /// Rows whose records serving replicas dropped because their queue was full.
    rows_dropped: i64,
    /// Rows of requests too large to record whole, and of records without inputs.
    rows_not_recorded: i64,
    scores: Value,
}

impl From<WindowRow> for WindowBody {
    fn from(window: WindowRow) -> Self {
        Self {
            sequence: window.sequence,
            opened_at: window.opened_at,
            closed_at: window.closed_at,
            rows: window.rows,
            drifted: window.drifted,
            baseline_version: window.baseline_version,
            rows_lost: window.rows_lost,
            rows_dropped: window.rows_dropped,
            rows_not_recorded: window.rows_not_recorded,
            scores: window.scores,
        }
    }
}

/// A drift event: `detected` or `cleared`, with what led to it.
#[derive(Debug, Serialize)]
pub(crate) struct VerdictBody {
    event_id: Uuid,
    what: String,
    baseline_version: String,
    /// Numbers of the windows that led to it.
    windows: Vec<i64>,
    evidence: Value,
    decided_at: DateTime<Utc>,
}

impl From<VerdictRow> for VerdictBody {
    fn from(verdict: VerdictRow) -> Self {
        Self {
            event_id: verdict.event_id,
            what: verdict.what,
            baseline_version: verdict.baseline_version,
            windows: verdict.windows,
            evidence: verdict.evidence,
            decided_at: verdict.decided_at,
        }
    }
}

/// An action that a drift event led to.
#[derive(Debug, Serialize)]
pub(crate) struct ActionBody {
    id: i64,
    event_id: Uuid,
    action: String,
    status: String,
    attempts: i32,
    last_error: Option<String>,
    result: Option<Value>,
    idempotency_key: String,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl From<ActionRow> for ActionBody {
    fn from(action: ActionRow) -> Self {
        Self {
            idempotency_key: action.idempotency_key(),
            id: action.id,
            event_id: action.event_id,
            action: action.action,
            status: action.status,
            attempts: action.attempts,
            last_error: action.last_error,
            result: action.result,
            created_at: action.created_at,
            finished_at: action.finished_at,
        }
    }
}
