//! Deployments and rollouts as clients see them.

use serde::Serialize;
use slipway_api::events::AliasMove;
use slipway_api::traffic::{KillSwitch, Rule, StickyKey, TrafficTable};
use slipway_domain::rollout::{Evidence, Phase, Strategy};
use uuid::Uuid;

use crate::acknowledge::Acknowledgement;
use crate::replicas::Awaited;
use crate::store::deployments::Deployment;
use crate::store::notices::Notice;
use crate::store::rollouts::{Decision, StoredRollout};

/// A deployment.
#[derive(Debug, Serialize)]
pub(crate) struct DeploymentBody {
    /// Unlike the name, never reused.
    id: Uuid,
    name: String,
    model: String,
    stable_version: Option<String>,
    active_rollout_id: Option<Uuid>,
    watch_alias: Option<String>,
    sticky_key: Option<StickyKey>,
    prediction_output: Option<String>,
    rules: Vec<Rule>,
    kill_switch: Option<KillSwitch>,
    /// What came of the last move of the watched alias.
    last_alias_move: Option<AliasMove>,
    default_strategy: Strategy,
    traffic: TrafficTable,
    created_at_unix_ms: i64,
    /// After a change of the traffic table: which replicas follow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledgement: Option<Acknowledgement>,
    /// What the owner should know and no rollout shows; empty where there is nothing.
    notices: Vec<Notice>,
}

impl DeploymentBody {
    pub(crate) fn new(deployment: Deployment, active_rollout_id: Option<Uuid>, notices: Vec<Notice>) -> Self {
        let traffic = deployment.traffic.0;
        Self {
            id: deployment.id,
            name: deployment.name,
            model: deployment.model,
            stable_version: traffic.stable.as_ref().map(|stable| stable.version.clone()),
            active_rollout_id,
            watch_alias: deployment.watch_alias,
            sticky_key: traffic.sticky_key.clone(),
            prediction_output: traffic.prediction_output.clone(),
            rules: traffic.rules.clone(),
            kill_switch: traffic.kill_switch.clone(),
            last_alias_move: deployment.last_alias_move.map(|moved| moved.0),
            default_strategy: deployment.default_strategy.0,
            traffic,
            created_at_unix_ms: deployment.created_at_ms,
            acknowledgement: None,
            notices,
        }
    }

    /// The same with which replicas follow the change.
    pub(crate) fn acknowledged(self, acknowledgement: Acknowledgement) -> Self {
        Self { acknowledgement: Some(acknowledgement), ..self }
    }
}

/// A rollout.
#[derive(Debug, Serialize)]
pub(crate) struct RolloutBody {
    id: Uuid,
    deployment: String,
    deployment_id: Uuid,
    /// When the deployment was deleted, Unix time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment_deleted_at_unix_ms: Option<i64>,
    model: String,
    from_version: Option<String>,
    to_version: String,
    phase: Phase,
    /// Index of the current step; steps count from 0.
    step: usize,
    steps: usize,
    weight_percent: u8,
    reason: String,
    strategy: Strategy,
    created_at_unix_ms: u64,
    updated_at_unix_ms: u64,
    promotion_decided_at_unix_ms: Option<u64>,
    rollback_decided_at_unix_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decisions: Option<Vec<DecisionBody>>,
    /// Replicas that a rollout in progress waits for, and what for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting_for: Vec<Awaited>,
    /// After a command: which replicas follow the traffic table that it led to.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledgement: Option<Acknowledgement>,
}

/// Why it was decided.
#[derive(Debug, Serialize)]
pub(crate) struct DecisionBody {
    at_unix_ms: i64,
    step: i32,
    verdict: String,
    reason: String,
    evidence: Evidence,
}

impl RolloutBody {
    /// A line of a list: without decisions.
    pub(crate) fn line(stored: StoredRollout) -> Self {
        let rollout = &stored.state.0;
        Self {
            id: stored.id,
            weight_percent: rollout.weight_percent(),
            reason: rollout.reason().to_owned(),
            deployment_id: stored.deployment_id,
            deployment_deleted_at_unix_ms: stored.deployment_deleted_at_ms,
            from_version: rollout.from().map(|from| from.version.clone()),
            to_version: rollout.to().version.clone(),
            phase: rollout.phase(),
            step: rollout.step(),
            steps: rollout.strategy().steps.len(),
            strategy: rollout.strategy().clone(),
            created_at_unix_ms: rollout.created_at_unix_ms(),
            updated_at_unix_ms: rollout.updated_at_unix_ms(),
            promotion_decided_at_unix_ms: rollout.promotion_decided_at_unix_ms(),
            rollback_decided_at_unix_ms: rollout.rollback_decided_at_unix_ms(),
            decisions: None,
            waiting_for: Vec::new(),
            acknowledgement: None,
            deployment: stored.deployment,
            model: stored.model,
        }
    }

    /// The same with the replicas that it waits for.
    pub(crate) fn waiting_for(self, waiting_for: Vec<Awaited>) -> Self {
        Self { waiting_for, ..self }
    }

    /// The same with which replicas follow the change.
    pub(crate) fn acknowledged(self, acknowledgement: Acknowledgement) -> Self {
        Self { acknowledgement: Some(acknowledgement), ..self }
    }

    /// The whole of it.
    pub(crate) fn whole(stored: StoredRollout, decisions: Vec<Decision>) -> Self {
        let decisions = decisions
            .into_iter()
            .map(|decision| DecisionBody {
                at_unix_ms: decision.at_ms,
                step: decision.step,
                verdict: decision.verdict,
                reason: decision.reason,
                evidence: decision.evidence.0,
            })
            .collect();
        Self { decisions: Some(decisions), ..Self::line(stored) }
    }
}
