//! What operators set on a deployment's traffic besides its rollouts: rules by header, and the kill switch.

use slipway_api::events::DeploymentChange;
use slipway_api::rest::rollouts::{KillSwitchRequest, RulesRequest};
use slipway_api::traffic::{KillMode, KillSwitch, Pool, Rule, TrafficTable};
use slipway_domain::rollout::Command;
use slipway_http_server::Problem;
use slipway_runtime::clock::now_unix_ms;
use sqlx::PgConnection;

use crate::alias;
use crate::change::{self, Changed};
use crate::manage::{absent, tell};
use crate::state::State;
use crate::store::deployments::{self, Deployment};

/// Replaces the rules of a deployment; with none of them, weights alone decide.
pub(crate) async fn set_rules(state: &State, name: &str, body: RulesRequest) -> Result<(), Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    let change = |table: &mut TrafficTable| table.rules = body.rules.into_iter().map(Rule::from).collect();
    if set_table(&mut transaction, &deployment, change).await? {
        tell(state, &mut transaction, &deployment, "rules-set", DeploymentChange::default()).await?;
    }
    commit(state, transaction, name, Changed::default()).await
}

/// Turns the kill switch on. In the same transaction a rollout in progress is paused: nothing can be learned
/// about a version without traffic, and an operator decides how it continues. Until the switch is off, no
/// version gains traffic ([`TrafficTable::thawed`]).
pub(crate) async fn kill(state: &State, name: &str, body: KillSwitchRequest) -> Result<(), Problem> {
    let KillSwitchRequest { mode, reason } = body;
    let mode = KillMode::from(mode);
    let paused = if reason.is_empty() {
        "the kill switch is on".to_owned()
    } else {
        format!("the kill switch is on: {reason}")
    };
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let mut deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    let switch = KillSwitch { mode, reason: reason.clone() };
    // A drill has no place in an emergency.
    let stop = |table: &mut TrafficTable| (table.kill_switch, table.drill) = (Some(switch), None);
    if set_table(&mut transaction, &deployment, stop).await? {
        let details = DeploymentChange {
            mode: Some(mode.as_str().to_owned()),
            reason: (!reason.is_empty()).then_some(reason),
            ..DeploymentChange::default()
        };
        tell(state, &mut transaction, &deployment, "killed", details).await?;
        // What follows plans from the table that was just set.
        deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    }
    let pause = Command::Pause { reason: paused };
    let changed = change::command_active(state, &mut transaction, &deployment, pause).await?;
    commit(state, transaction, name, changed).await
}

/// Turns the kill switch off. A move of the watched alias that was recorded meanwhile is followed now.
pub(crate) async fn revive(state: &State, name: &str) -> Result<(), Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    let before = deployment.traffic.kill_switch.clone();
    if set_table(&mut transaction, &deployment, |table| table.kill_switch = None).await? {
        let details = DeploymentChange {
            mode: before.as_ref().map(|switch| switch.mode.as_str().to_owned()),
            reason: before.map(|switch| switch.reason).filter(|reason| !reason.is_empty()),
            ..DeploymentChange::default()
        };
        tell(state, &mut transaction, &deployment, "revived", details).await?;
    }
    commit(state, transaction, name, Changed::default()).await?;
    // Where the registry is unavailable, the control loop tries again.
    if let Err(problem) = alias::follow_pending(state).await {
        tracing::warn!(deployment = name, %problem, "pending alias moves not followed; retrying");
    }
    Ok(())
}

/// Sets what the serving pool does for a deployment that scales to zero.
pub(crate) async fn set_pool(state: &State, name: &str, pool: Option<Pool>) -> Result<(), Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    set_table(&mut transaction, &deployment, |table| table.pool = pool).await?;
    commit(state, transaction, name, Changed::default()).await
}

/// Changes the table of a locked deployment; `false` where that makes no difference.
pub(crate) async fn set_table(
    connection: &mut PgConnection,
    deployment: &Deployment,
    change: impl FnOnce(&mut TrafficTable),
) -> Result<bool, Problem> {
    let traceparent = slipway_telemetry::current_traceparent();
    let revised = deployment.traffic.revised(now_unix_ms(), traceparent, change);
    let revised = revised.map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    let Some(table) = revised else { return Ok(false) };
    deployments::set_traffic(connection, deployment.deployment_key, &table).await?;
    Ok(true)
}

async fn commit(
    state: &State,
    transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    name: &str,
    changed: Changed,
) -> Result<(), Problem> {
    transaction.commit().await?;
    changed.committed(state, name).await;
    Ok(())
}
