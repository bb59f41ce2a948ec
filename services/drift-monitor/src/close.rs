//! Closing a window: its scores, the verdict, the events, the actions and the place in the stream, in one
//! transaction.

use chrono::{DateTime, Utc};
use serde_json::json;
use slipway_api::events::{DriftDetected, WindowClosed};
use slipway_domain::drift::policy::{self, MonitorAction};
use slipway_domain::drift::{Profile, Window, WindowScores, score};
use sqlx::PgConnection;
use sqlx::types::Json;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::evidence;
use crate::layout::listed;
use crate::received::{Missed, Received};
use crate::spec::ActionKind;
use crate::state::State;
use crate::store::monitors::{DRIFTED, WATCHING};
use crate::store::positions::{Position, Watched};
use crate::store::windows::{self, Advanced, NewWindow};
use crate::store::{self, actions};
use crate::template::Variables;

/// A window that is full.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) window: Window,
    pub(crate) opened_at: DateTime<Utc>,
    pub(crate) closed_at: DateTime<Utc>,
    pub(crate) position: Position,
    pub(crate) missed: Missed,
    pub(crate) received: Received,
}

/// Scores the window and commits all that follows. `false` where the monitor's row is another than `watched`
/// says: then nothing was committed.
pub(crate) async fn commit(
    state: &State,
    watched: &mut Watched,
    profile: &Profile,
    closed: &Closed,
) -> anyhow::Result<bool> {
    // Events and actions of this window carry this span's trace.
    let span = tracing::info_span!("drift.close_window", monitor = watched.name);
    commit_in_span(state, watched, profile, closed).instrument(span).await
}

async fn commit_in_span(
    state: &State,
    watched: &mut Watched,
    profile: &Profile,
    closed: &Closed,
) -> anyhow::Result<bool> {
    let scores = score(profile, &closed.window, &watched.spec.thresholds);
    let sequence = watched.window_sequence + 1;
    let number = sequence.unsigned_abs();
    // The time of the data, so that windows read late after a stop lead to the same verdicts.
    let closed_unix_ms = u64::try_from(closed.closed_at.timestamp_millis()).unwrap_or_default();
    let now_unix_ms = closed_unix_ms.min(slipway_runtime::clock::now_unix_ms());
    let (policy_state, verdicts) =
        policy::step(&watched.spec.policy(), &watched.policy_state, number, &scores, now_unix_ms);
    let baseline_version = watched.baseline_version.clone().unwrap_or_default();

    let mut transaction = slipway_lease::begin(&state.pool).await?;
    if !store::lock(&mut transaction, watched.id, watched.epoch).await? {
        return Ok(false);
    }
    let row = NewWindow {
        sequence,
        opened_at: closed.opened_at,
        closed_at: closed.closed_at,
        baseline_version: &baseline_version,
        scores: &scores,
        missed: closed.missed,
    };
    windows::insert(&mut transaction, watched.id, &row).await?;
    state.outbox.enqueue(&mut transaction, &window_closed(watched, number, &scores, closed.missed)).await?;
    for verdict in &verdicts {
        tell(state, &mut transaction, watched, verdict, &scores).await?;
    }
    let (status, reason) = standing(watched, policy_state.is_drifted(), &verdicts, &scores);
    let advanced = Advanced {
        sequence,
        position: closed.position,
        received: &closed.received,
        status,
        reason: &reason,
        policy_state: &policy_state,
    };
    windows::advance(&mut transaction, watched.id, &advanced).await?;
    transaction.commit().await?;

    // What `advance` wrote.
    watched.window_sequence = sequence;
    watched.epoch += 1;
    watched.policy_state = Json(policy_state);
    status.clone_into(&mut watched.status);
    watched.reason = reason;
    committed(state, watched, &scores, closed.missed);
    Ok(true)
}

/// The event of a window.
fn window_closed(watched: &Watched, window: u64, scores: &WindowScores, missed: Missed) -> WindowClosed {
    WindowClosed {
        monitor: watched.name.clone(),
        deployment: watched.deployment.clone(),
        window,
        rows: scores.rows,
        drifted: scores.drifted,
        share_drifted: scores.share_drifted,
        reasons: scores.reasons.clone(),
        rows_lost: missed.lost,
        rows_dropped: missed.dropped,
        rows_not_recorded: missed.not_recorded,
    }
}

/// Announces a window that was committed: to the relay, the actions, the metrics and the log.
fn committed(state: &State, watched: &Watched, scores: &WindowScores, missed: Missed) {
    state.outbox.wake();
    state.actions_due.notify_one();
    state.metrics.window_closed(&watched.name, scores, watched.policy_state.is_drifted());
    state.metrics.missed(&watched.name, missed);
    tracing::info!(
        monitor = watched.name,
        window = watched.window_sequence,
        rows = scores.rows,
        drifted = scores.drifted,
        share_drifted = scores.share_drifted,
        rows_lost = missed.lost,
        rows_dropped = missed.dropped,
        "window closed"
    );
}

/// A drift event, and where drift begins or widens the actions.
async fn tell(
    state: &State,
    connection: &mut PgConnection,
    watched: &Watched,
    verdict: &MonitorAction,
    scores: &WindowScores,
) -> anyhow::Result<()> {
    let (what, windows, parts, acts) = match verdict {
        MonitorAction::Detected { windows } => ("detected", windows, scores.drifted_parts(), true),
        MonitorAction::Widened { windows, parts, acts } => ("detected", windows, parts.clone(), *acts),
        MonitorAction::Cleared { windows } => ("cleared", windows, Vec::new(), false),
    };
    let event = DriftDetected {
        monitor: watched.name.clone(),
        deployment: watched.deployment.clone(),
        model: watched.model.clone(),
        baseline_version: watched.baseline_version.clone().unwrap_or_default(),
        what: what.to_owned(),
        windows: windows.clone(),
        further: matches!(verdict, MonitorAction::Widened { .. }),
        parts: evidence::named(&parts),
        evidence: evidence::of(scores),
    };
    let event_id = state.outbox.enqueue(connection, &event).await?;
    store::windows::insert_verdict(connection, watched.id, event_id, &event).await?;
    state.metrics.event(&watched.name, what);
    tracing::info!(monitor = watched.name, what, %event_id, ?windows, "drift verdict");
    if acts {
        add_actions(connection, watched, event_id, &event).await?;
    }
    Ok(())
}

async fn add_actions(
    connection: &mut PgConnection,
    watched: &Watched,
    event_id: Uuid,
    event: &DriftDetected,
) -> anyhow::Result<()> {
    let (id, windows) =
        (event_id.to_string(), event.windows.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
    let variables = Variables {
        monitor: &event.monitor,
        deployment: &event.deployment,
        model: &event.model,
        baseline_version: &event.baseline_version,
        event_id: &id,
        windows: &windows,
    };
    for (position, spec) in watched.spec.on_drift.iter().enumerate() {
        let request = match (spec.action, &spec.job) {
            (ActionKind::SubmitJob, Some(job)) => serde_json::to_value(variables.job(job))?,
            _ => json!({"reason": format!("drift of `{}` in windows {windows} (event {id})", event.monitor)}),
        };
        actions::insert(connection, watched.id, event_id, position, spec.action.as_str(), &request).await?;
    }
    Ok(())
}

/// How the monitor stands, and why.
fn standing(
    watched: &Watched,
    drifted: bool,
    verdicts: &[MonitorAction],
    scores: &WindowScores,
) -> (&'static str, String) {
    let status = if drifted { DRIFTED } else { WATCHING };
    if verdicts.is_empty() {
        // As before: a reason stays until the next verdict.
        return (status, watched.reason.clone());
    }
    if !drifted {
        return (status, watched.misfit.clone());
    }
    let parts = scores.drifted_parts();
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    (status, format!("{}: {}", scores.reasons.join("; "), listed(&names)))
}
