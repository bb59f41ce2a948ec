//! Closing a window: its scores, the verdict, the events, the actions and the place in the stream, in one transaction.

use chrono::{DateTime, Utc};
use serde_json::json;
use slipway_api::events::{DriftDetected, WindowClosed};
use slipway_domain::drift::policy::{self, MonitorAction};
use slipway_domain::drift::{Profile, Window, WindowScores, score};
use sqlx::PgConnection;
use sqlx::types::Json;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::app::App;
use crate::evidence;
use crate::spec::ActionKind;
use crate::store::monitors::{DRIFTED, WATCHING};
use crate::store::positions::{Position, Watched};
use crate::store::windows::{self, NewWindow};
use crate::store::{self, actions};
use crate::template::Variables;

/// Features named in a reason; all of them are in the scores.
const MAX_NAMED: usize = 5;

/// A window that is full.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) window: Window,
    pub(crate) opened_at: DateTime<Utc>,
    pub(crate) closed_at: DateTime<Utc>,
    pub(crate) position: Position,
}

/// Scores the window and commits all that follows. `false` where the monitor's row is another than `watched` says: then
/// nothing was committed.
pub(crate) async fn commit(
    app: &App,
    watched: &mut Watched,
    profile: &Profile,
    closed: &Closed,
) -> anyhow::Result<bool> {
    // Events and actions of this window carry this span's trace.
    let span = tracing::info_span!("drift.close_window", monitor = watched.name);
    commit_in_span(app, watched, profile, closed).instrument(span).await
}

async fn commit_in_span(
    app: &App,
    watched: &mut Watched,
    profile: &Profile,
    closed: &Closed,
) -> anyhow::Result<bool> {
    let scores = score(profile, &closed.window, &watched.spec.thresholds);
    let sequence = watched.window_sequence + 1;
    let number = sequence.unsigned_abs();
    // The time of the data, so that windows read late after a stop lead to the same verdicts.
    let closed_unix_ms = u64::try_from(closed.closed_at.timestamp_millis()).unwrap_or_default();
    let now_unix_ms = closed_unix_ms.min(slipway_service_kit::clock::now_unix_ms());
    let (state, verdicts) =
        policy::step(&watched.spec.policy(), &watched.policy_state, number, &scores, now_unix_ms);
    let baseline_version = watched.baseline_version.clone().unwrap_or_default();

    let mut transaction = app.pool.begin().await?;
    if !store::lock(&mut transaction, watched.id, watched.epoch).await? {
        return Ok(false);
    }
    let row = NewWindow {
        sequence,
        opened_at: closed.opened_at,
        closed_at: closed.closed_at,
        baseline_version: &baseline_version,
        scores: &scores,
    };
    windows::insert(&mut transaction, watched.id, &row).await?;
    let event = WindowClosed {
        monitor: watched.name.clone(),
        deployment: watched.deployment.clone(),
        window: number,
        rows: scores.rows,
        drifted: scores.drifted,
        share_drifted: scores.share_drifted,
    };
    app.outbox.enqueue(&mut transaction, &event).await?;
    for verdict in &verdicts {
        tell(app, &mut transaction, watched, verdict, &scores).await?;
    }
    let (status, reason) = standing(watched, state.drifted, &verdicts, &scores);
    windows::advance(&mut transaction, watched.id, sequence, closed.position, (status, &reason), &state)
        .await?;
    transaction.commit().await?;

    // What `advance` wrote.
    watched.window_sequence = sequence;
    watched.epoch += 1;
    watched.policy_state = Json(state);
    status.clone_into(&mut watched.status);
    watched.reason = reason;
    app.outbox.wake();
    app.actions_due.notify_one();
    app.metrics.window_closed(&watched.name, &scores, watched.policy_state.drifted);
    tracing::info!(
        monitor = watched.name,
        window = sequence,
        rows = scores.rows,
        drifted = scores.drifted,
        share_drifted = scores.share_drifted,
        "window closed"
    );
    Ok(true)
}

/// A drift event, and where drift begins the actions.
async fn tell(
    app: &App,
    connection: &mut PgConnection,
    watched: &Watched,
    verdict: &MonitorAction,
    scores: &WindowScores,
) -> anyhow::Result<()> {
    let (what, windows) = match verdict {
        MonitorAction::Detected { windows } => ("detected", windows),
        MonitorAction::Cleared { windows } => ("cleared", windows),
    };
    let event = DriftDetected {
        monitor: watched.name.clone(),
        deployment: watched.deployment.clone(),
        model: watched.model.clone(),
        baseline_version: watched.baseline_version.clone().unwrap_or_default(),
        what: what.to_owned(),
        windows: windows.clone(),
        evidence: evidence::of(scores),
    };
    let event_id = app.outbox.enqueue(connection, &event).await?;
    store::windows::insert_verdict(connection, watched.id, event_id, &event).await?;
    app.metrics.event(&watched.name, what);
    tracing::info!(monitor = watched.name, what, %event_id, ?windows, "drift verdict");
    if what == "detected" {
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
        return (status, String::new());
    }
    let moved: Vec<&str> = scores
        .features
        .iter()
        .chain(&scores.predictions)
        .filter(|column| column.drifted)
        .map(|column| column.name.as_str())
        .collect();
    let more = moved.len().saturating_sub(MAX_NAMED);
    let names = moved.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (status, format!("{:.0} % of the features drifted: {names}{rest}", scores.share_drifted * 100.0))
}
