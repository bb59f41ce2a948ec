//! What people say of a deployment's traffic beside its rollouts: rules by header, and the kill switch.

use serde::Deserialize;
use slipway_api::traffic::{KillMode, KillSwitch, Rule, TrafficTable};
use slipway_service_kit::Problem;
use slipway_service_kit::clock::now_unix_ms;

use crate::change::Changed;
use crate::manage::{absent, pause, tell};
use crate::state::State;
use crate::store::deployments;

/// Rules as a client sets them, all at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RulesBody {
    rules: Vec<Rule>,
}

/// The kill switch as a client turns it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KillSwitchBody {
    #[serde(default = "stable_only")]
    mode: KillMode,
    #[serde(default)]
    reason: String,
}

const fn stable_only() -> KillMode {
    KillMode::StableOnly
}

/// Replaces the rules of a deployment; none of them, and weights alone decide.
pub(crate) async fn set_rules(state: &State, name: &str, body: RulesBody) -> Result<(), Problem> {
    change(state, name, "rules-set", |table| table.rules = body.rules).await
}

/// Turns the kill switch. What is being rolled out is paused: nothing can be learned about it, and whoever turns the switch off again is
/// to say how it goes on.
pub(crate) async fn kill(state: &State, name: &str, body: KillSwitchBody) -> Result<(), Problem> {
    let KillSwitchBody { mode, reason } = body;
    let paused = if reason.is_empty() { "the kill switch is on".to_owned() } else { reason.clone() };
    let switch = KillSwitch { mode, reason };
    change(state, name, "killed", |table| table.kill_switch = Some(switch)).await?;
    // First what must not wait.
    pause(state, name, &paused, None).await.map(drop)
}

/// Turns the kill switch off.
pub(crate) async fn revive(state: &State, name: &str) -> Result<(), Problem> {
    change(state, name, "revived", |table| table.kill_switch = None).await
}

/// Changes a deployment's table, and tells of it where that makes a difference.
async fn change(
    state: &State,
    name: &str,
    what: &str,
    change: impl FnOnce(&mut TrafficTable),
) -> Result<(), Problem> {
    let mut transaction = state.pool.begin().await?;
    let deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    let before = &deployment.traffic.0;
    let mut table = before.clone();
    change(&mut table);
    table.validate().map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    if table.routes_like(before) {
        return Ok(());
    }
    table.revision += 1;
    table.decided_at_unix_ms = now_unix_ms();
    table.traceparent = slipway_telemetry::current_traceparent();
    deployments::set_traffic(&mut transaction, deployment.deployment_key, &table).await?;
    tell(state, &mut transaction, &deployment, what).await?;
    transaction.commit().await?;
    Changed::ended(None).committed(state, name).await;
    Ok(())
}
