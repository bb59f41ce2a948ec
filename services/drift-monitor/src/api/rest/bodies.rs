//! Rows as the bodies of the REST API.

use serde::de::DeserializeOwned;
use serde_json::Value;
use slipway_api::rest::monitors::{Action, DriftVerdict, Monitor, Window};
use slipway_domain::drift::WindowScores;
use slipway_http_server::Problem;

use crate::evidence::StoredEvidence;
use crate::store::actions::ActionRow;
use crate::store::monitors::Monitor as StoredMonitor;
use crate::store::windows::{VerdictRow, WindowRow};

/// A value as it is stored; one that cannot be read is an error of the server.
fn stored<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(Problem::internal)
}

pub(super) fn monitor(monitor: StoredMonitor) -> Result<Monitor, Problem> {
    Ok(Monitor {
        drifted_parts: monitor.policy_state.reported().clone(),
        detected_at_unix_ms: monitor.policy_state.detected_at_unix_ms(),
        name: monitor.name,
        deployment: monitor.deployment,
        model: monitor.model,
        state: stored(monitor.status.into())?,
        reason: monitor.reason,
        baseline_version: monitor.baseline_version,
        follows_stable: monitor.follows_stable,
        windows_closed: monitor.window_sequence,
        open_window: monitor.open_window.map(stored).transpose()?,
        deployment_id: monitor.deployment_id.filter(|id| !id.is_empty()),
        created_at: monitor.created_at,
        updated_at: monitor.updated_at,
        spec: monitor.spec.0.into(),
    })
}

pub(super) fn window(window: WindowRow) -> Result<Window, Problem> {
    let scores: WindowScores = stored(window.scores)?;
    Ok(Window {
        sequence: window.sequence,
        opened_at: window.opened_at,
        closed_at: window.closed_at,
        rows: window.rows,
        drifted: window.drifted,
        baseline_version: window.baseline_version,
        rows_lost: window.rows_lost,
        rows_dropped: window.rows_dropped,
        rows_not_recorded: window.rows_not_recorded,
        scores: scores.into(),
    })
}

pub(super) fn verdict(verdict: VerdictRow) -> Result<DriftVerdict, Problem> {
    let evidence: StoredEvidence = stored(verdict.evidence)?;
    Ok(DriftVerdict {
        event_id: verdict.event_id,
        what: stored(verdict.what.into())?,
        baseline_version: verdict.baseline_version,
        windows: verdict.windows,
        evidence: evidence.into(),
        decided_at: verdict.decided_at,
    })
}

pub(super) fn action(action: ActionRow) -> Result<Action, Problem> {
    Ok(Action {
        idempotency_key: action.idempotency_key(),
        id: action.id,
        event_id: action.event_id,
        action: stored(action.action.into())?,
        status: stored(action.status.into())?,
        attempts: action.attempts,
        last_error: action.last_error,
        result: action.result.map(stored).transpose()?,
        created_at: action.created_at,
        finished_at: action.finished_at,
    })
}
