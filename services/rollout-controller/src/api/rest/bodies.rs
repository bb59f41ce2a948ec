//! Rows as the bodies of the REST API.

use slipway_api::rest::rollouts::{
    Acknowledgement, AwaitedReplica, Decision, Deployment, Drill, Evidence, LaggingReplica, Notice,
    ReplicaState, Rollout, ServingReplica, TrafficTable, Verdict,
};
use uuid::Uuid;

use crate::acknowledge::Acknowledged;
use crate::replicas::{Awaited, Lagging, Shown, Standing};
use crate::store::deployments::Deployment as StoredDeployment;
use crate::store::drills::StoredDrill;
use crate::store::notices::Notice as StoredNotice;
use crate::store::rollouts::{Decision as StoredDecision, StoredRollout};

/// A deployment with its rollout in progress.
pub(crate) fn deployment(
    deployment: StoredDeployment,
    active_rollout_id: Option<Uuid>,
    notices: Vec<StoredNotice>,
) -> Deployment {
    let traffic = TrafficTable::from(deployment.traffic.0);
    Deployment {
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
        default_strategy: deployment.default_strategy.0.into(),
        traffic,
        created_at_unix_ms: deployment.created_at_ms,
        acknowledgement: None,
        replicas: Vec::new(),
        drill: None,
        notices: notices.into_iter().map(notice).collect(),
    }
}

/// A drill with its report.
pub(crate) fn drill(stored: StoredDrill, deployment: String) -> Drill {
    Drill::of(stored.id, deployment, stored.state.0)
}

fn notice(StoredNotice { about, at_ms, message, .. }: StoredNotice) -> Notice {
    Notice { about, at_unix_ms: at_ms, message }
}

/// The replicas that route by a change.
pub(crate) fn acknowledgement(acknowledged: Acknowledged) -> Acknowledgement {
    let Acknowledged { table_revision, complete, followed, not_followed, message } = acknowledged;
    let not_followed = not_followed.into_iter().map(lagging).collect();
    Acknowledgement { table_revision, complete, followed, not_followed, message }
}

/// A serving replica of a deployment.
pub(crate) fn replica(shown: Shown) -> ServingReplica {
    let Shown { replica_id, standing, table_revision, silent_since_unix_ms, problem } = shown;
    let state = match standing {
        Standing::Current => ReplicaState::Current,
        Standing::Behind => ReplicaState::Behind,
        Standing::Waiting => ReplicaState::Waiting,
        Standing::LastKnown => ReplicaState::LastKnown,
        Standing::Silent => ReplicaState::Silent,
    };
    ServingReplica { replica_id, state, table_revision, silent_since_unix_ms, problem }
}

fn lagging(Lagging { replica_id, table_revision, heard_ms_ago }: Lagging) -> LaggingReplica {
    LaggingReplica { replica_id, table_revision, heard_ms_ago }
}

/// A replica that a rollout waits for.
pub(crate) fn awaited(Awaited { replica_id, heard_ms_ago, waits_for }: Awaited) -> AwaitedReplica {
    AwaitedReplica { replica_id, heard_ms_ago, waits_for }
}

/// An item of a list: a rollout without its decisions.
pub(crate) fn listed(stored: StoredRollout) -> Rollout {
    let rollout = &stored.state.0;
    Rollout {
        id: stored.id,
        weight_percent: rollout.weight_percent(),
        reason: rollout.reason().to_owned(),
        deployment_id: stored.deployment_id,
        deployment_deleted_at_unix_ms: stored.deployment_deleted_at_ms,
        from_version: rollout.from().map(|from| from.version.clone()),
        to_version: rollout.to().version.clone(),
        phase: rollout.phase().into(),
        step: rollout.step(),
        steps: rollout.strategy().steps.len(),
        strategy: rollout.strategy().clone().into(),
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

/// A rollout with its decisions.
pub(crate) fn detailed(stored: StoredRollout, decisions: Vec<StoredDecision>) -> Rollout {
    Rollout { decisions: Some(decisions.into_iter().map(decision).collect()), ..listed(stored) }
}

/// A decision with its evidence.
pub(crate) fn decision(stored: StoredDecision) -> Decision {
    let verdict =
        [Verdict::Pass, Verdict::Fail].into_iter().find(|verdict| verdict.as_str() == stored.verdict);
    Decision {
        at_unix_ms: stored.at_ms,
        step: stored.step,
        verdict: verdict.unwrap_or(Verdict::Inconclusive),
        reason: stored.reason,
        evidence: Evidence::from(stored.evidence.0),
    }
}
