//! Fault drills: started and stopped by clients, followed by the control loop.
//!
//! `slipway_domain::rollout::drill` decides. The traffic table tells the replicas, which end a drill at its
//! time by themselves; what they count comes with their status.

use std::time::Duration;

use slipway_api::events::DeploymentChange;
use slipway_api::traffic::TrafficTable;
use slipway_domain::rollout::drill::{self, Drill, DrillEnd, DrillRequest, DrillSeen, NewDrill};
use slipway_http_server::Problem;
use slipway_runtime::clock::{now_unix_ms, now_unix_ms_column};
use slipway_runtime::id;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::change::Changed;
use crate::manage::{absent, find, tell};
use crate::overrides::set_table;
use crate::state::State;
use crate::store::deployments::{self, Deployment};
use crate::store::drills::{self, StoredDrill};
use crate::store::notices::{self, NewNotice};
use crate::store::rollouts;

/// How often a drill that runs is looked at: replicas report as often.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a drill; `false` where the one that is meant is there already: it has this key, or it runs and is
/// the same.
///
/// # Errors
/// There is no such deployment, the request means nothing or is not confirmed, or the deployment is in the
/// middle of something else.
pub(crate) async fn start(
    state: &State,
    name: &str,
    request: DrillRequest,
    key: Option<&str>,
) -> Result<(StoredDrill, bool), Problem> {
    request.validate(name).map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    if let Some(found) = started_before(&mut transaction, &deployment, &request, key).await? {
        return Ok((found, false));
    }
    let stored = begin(state, &mut transaction, &deployment, request, key).await?;
    set_table(&mut transaction, &deployment, |table| table.drill = Some(stored.state.in_table())).await?;
    if !drills::insert(&mut transaction, &stored).await? {
        return Err(Problem::conflict(format!("another drill of deployment `{name}` has just started")));
    }
    let what = stored.state.request.in_words();
    if stored.state.is_against_users() {
        let message = format!("drill {} against users' requests: {what}", stored.id);
        let notice = NewNotice { about: notices::DRILL, message: &message };
        notices::set(&mut transaction, deployment.deployment_key, notice, now_unix_ms_column()).await?;
    }
    tracing::info!(deployment = name, drill_id = %stored.id, what, "drill started");
    let details = DeploymentChange { reason: Some(what), ..DeploymentChange::default() };
    tell(state, &mut transaction, &deployment, "drill-started", details).await?;
    transaction.commit().await?;
    Changed::default().committed(state, name).await;
    Ok((stored, true))
}

/// The drill that the request is about, where it was started before.
async fn started_before(
    connection: &mut PgConnection,
    deployment: &Deployment,
    request: &DrillRequest,
    key: Option<&str>,
) -> Result<Option<StoredDrill>, Problem> {
    if let Some(key) = key
        && let Some(found) = drills::find_by_key(connection, key).await?
    {
        if found.deployment_key == deployment.deployment_key && found.state.request == *request {
            return Ok(Some(found));
        }
        let detail = format!("`idempotency_key`: it belongs to drill {}, which is a different one", found.id);
        return Err(Problem::conflict(detail));
    }
    let newest = drills::newest(connection, deployment.deployment_key).await?;
    match newest.filter(|newest| newest.state.ended.is_none()) {
        Some(running) if running.state.request == *request => Ok(Some(running)),
        Some(running) => Err(Problem::conflict(format!(
            "drill {} of deployment `{1}` runs already; stop it first (`slipway deployments drill stop {1}`)",
            running.id, deployment.name
        ))),
        None => Ok(None),
    }
}

/// A drill needs the deployment for itself: in a rollout, its copies would compete with the rollout's, and
/// users would meet its faults in the middle of an analysis.
async fn begin(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    request: DrillRequest,
    key: Option<&str>,
) -> Result<StoredDrill, Problem> {
    let name = &deployment.name;
    deployment.traffic.thawed().map_err(|frozen| Problem::conflict(frozen.to_string()))?;
    let newest = rollouts::newest(connection, deployment.deployment_key).await?;
    if let Some(active) = newest.filter(|newest| newest.state.is_active()) {
        return Err(Problem::conflict(format!(
            "rollout {} of deployment `{name}` is in progress, and its analysis would take the drill's \
             failures for those of a version; start the drill once it has ended",
            active.id
        )));
    }
    let Some(version) = deployment.traffic.stable.clone() else {
        return Err(Problem::conflict(format!("deployment `{name}` has no stable version to copy")));
    };
    let id = id::time_ordered();
    let replica = state.replicas.first_live(name);
    let new = NewDrill { id: id.to_string(), deployment: name, version, replica };
    let drill = Drill::begin(request, new, now_unix_ms())
        .map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    let (deployment_key, idempotency_key) = (deployment.deployment_key, key.map(str::to_owned));
    Ok(StoredDrill { id, deployment_key, state: Json(drill), idempotency_key })
}

/// The drill that runs, or the newest one.
///
/// # Errors
/// There is no such deployment, or it had no drill.
pub(crate) async fn newest(state: &State, name: &str) -> Result<StoredDrill, Problem> {
    let mut connection = state.pool.acquire().await?;
    let deployment = find(&mut connection, name).await?;
    let found = drills::newest(&mut connection, deployment.deployment_key).await?;
    found.ok_or_else(|| Problem::not_found(format!("drill of deployment `{name}`")))
}

/// Stops the drill that runs. One that has ended stays as it is.
///
/// # Errors
/// There is no such deployment, or it had no drill.
pub(crate) async fn stop(state: &State, name: &str, reason: &str) -> Result<StoredDrill, Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    let newest = drills::newest(&mut transaction, deployment.deployment_key).await?;
    let mut newest = newest.ok_or_else(|| Problem::not_found(format!("drill of deployment `{name}`")))?;
    if newest.state.ended.is_some() {
        return Ok(newest);
    }
    let ends = Some((DrillEnd::Stopped, reason.to_owned()));
    let seen = DrillSeen { ends, ..observe(state, &deployment, &newest) };
    newest.state.0 = drill::step(&newest.state, &seen);
    finish(state, &mut transaction, Some(&deployment), &newest).await?;
    transaction.commit().await?;
    Changed::default().committed(state, name).await;
    Ok(newest)
}

/// Looks at every drill that runs; answers with the time until the next round.
pub(crate) async fn round(state: &State) -> Duration {
    let running = async {
        let mut connection = state.pool.acquire().await?;
        drills::running(&mut connection).await
    };
    let running = match running.await {
        Ok(running) => running,
        Err(error) => {
            tracing::warn!(%error, "drills not read; retrying");
            return PAUSE;
        }
    };
    for stored in &running {
        if let Err(problem) = follow(state, stored).await {
            tracing::warn!(drill_id = %stored.id, %problem, "drill not followed; retrying");
        }
    }
    if running.is_empty() { Duration::MAX } else { PAUSE }
}

/// Takes what the replicas report, and ends the drill where it is over.
async fn follow(state: &State, before: &StoredDrill) -> Result<(), Problem> {
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    let deployment = deployments::lock_key(&mut transaction, before.deployment_key).await?;
    // It may have been stopped since it was read.
    let newest = drills::newest(&mut transaction, before.deployment_key).await?;
    let Some(mut stored) = newest.filter(|newest| newest.id == before.id && newest.state.ended.is_none())
    else {
        return Ok(());
    };
    let seen = match &deployment {
        Some(deployment) => observe(state, deployment, &stored),
        None => {
            let ends = Some((DrillEnd::Interrupted, "the deployment was deleted".to_owned()));
            DrillSeen { now_unix_ms: now_unix_ms(), ends, ..DrillSeen::default() }
        }
    };
    // Another leader may have begun to send them.
    let receives = seen.reports.iter().any(|(_, counts)| {
        counts.replayed.as_ref().is_some_and(|replayed| replayed.found == 0 && !replayed.done)
    });
    if let Some(deployment) = deployment.as_ref().filter(|_| receives) {
        state.replays.begin(&state.bus, &stored.state, deployment);
    }
    let next = drill::step(&stored.state, &seen);
    if next == stored.state.0 {
        return Ok(());
    }
    stored.state.0 = next;
    if stored.state.ended.is_none() {
        drills::save(&mut transaction, &stored).await?;
        transaction.commit().await?;
        return Ok(());
    }
    finish(state, &mut transaction, deployment.as_ref(), &stored).await?;
    transaction.commit().await?;
    if let Some(deployment) = deployment {
        Changed::default().committed(state, &deployment.name).await;
    }
    Ok(())
}

/// What is known of a drill now.
fn observe(state: &State, deployment: &Deployment, stored: &StoredDrill) -> DrillSeen {
    let table = &deployment.traffic;
    let is_named = names(table, stored);
    let ends = (!is_named).then(|| {
        let why =
            if table.kill_switch.is_some() { "the kill switch was activated" } else { "a rollout began" };
        (DrillEnd::Interrupted, why.to_owned())
    });
    DrillSeen {
        now_unix_ms: now_unix_ms(),
        strategy: deployment.default_strategy.0.clone(),
        reports: state.replicas.drill(&deployment.name, &stored.id.to_string()),
        ends,
    }
}

fn names(table: &TrafficTable, stored: &StoredDrill) -> bool {
    table.drill.as_ref().is_some_and(|drill| drill.id == stored.id.to_string())
}

/// Stores the end of a drill, and takes it out of the traffic table.
async fn finish(
    state: &State,
    connection: &mut PgConnection,
    deployment: Option<&Deployment>,
    stored: &StoredDrill,
) -> Result<(), Problem> {
    drills::save(connection, stored).await?;
    state.replays.end(&stored.state.id);
    state.metrics.drilled(stored.state.noticed.is_some());
    let Some(deployment) = deployment else { return Ok(()) };
    if names(&deployment.traffic, stored) {
        set_table(connection, deployment, |table| table.drill = None).await?;
    }
    notices::clear(connection, deployment.deployment_key, notices::DRILL).await?;
    let summary = stored.state.summary();
    tracing::info!(deployment = deployment.name, drill_id = %stored.id, summary, "drill ended");
    let details = DeploymentChange { reason: Some(summary), ..DeploymentChange::default() };
    tell(state, connection, deployment, "drill-ended", details).await
}
