//! A watched alias was set: what follows is decided by the domain and shown on the deployment.

use slipway_api::events::{ALIAS_SET, AliasMove, AliasOutcome, AliasSet, DeploymentChange, EVENTS_STREAM};
use slipway_api::traffic::Target;
use slipway_domain::rollout::{AliasDecision, AliasMoved, follow_alias};
use slipway_event_bus::permissions::durable;
use slipway_event_bus::{Consumer, EventBus, Received};
use slipway_http_server::Problem;
use slipway_outbox::inbox;
use slipway_runtime::clock::now_unix_ms;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::change::{self, Changed, Wanted};
use crate::manage::tell;
use crate::state::State;
use crate::store::deployments::{self, Deployment};
use crate::store::{identity, notices, rollouts};

/// Name of the durable subscription and of the inbox.
const CONSUMER: &str = durable::CONTROLLER_ALIAS;

/// Listens until `shutdown`.
pub(crate) async fn run(bus: EventBus, state: State, shutdown: CancellationToken) {
    let consumer = Consumer::new(bus, EVENTS_STREAM, CONSUMER, vec![ALIAS_SET.to_owned()]);
    let handler = |received: Received| {
        let state = state.clone();
        let span = tracing::info_span!("alias.follow", event = %received.id);
        slipway_telemetry::set_parent(&span, received.traceparent.as_deref());
        async move { Box::pin(follow(&state, &received)).await }.instrument(span)
    };
    consumer.run(shutdown, handler).await;
}

async fn follow(state: &State, received: &Received) -> Result<(), String> {
    let alias: AliasSet = match received.parse() {
        Ok(alias) => alias,
        Err(error) => {
            // It would not parse the next time either.
            tracing::error!(%error, event = %received.id, "event does not parse; skipped");
            return Ok(());
        }
    };
    let mut connection = state.pool.acquire().await.map_err(|error| error.to_string())?;
    let watching = identity::watching(&mut connection, &alias).await;
    let watching = watching.map_err(|error| error.to_string())?;
    drop(connection);
    for deployment in watching {
        // Each with its own inbox entry: what was done for one is not done again because another failed.
        roll_out(state, received, &alias, &deployment).await.map_err(|problem| problem.to_string())?;
    }
    Ok(())
}

async fn roll_out(state: &State, received: &Received, alias: &AliasSet, name: &str) -> Result<(), Problem> {
    let resolved = match state.resolve_move(name, alias).await {
        // A delivery that failed comes again after later ones. The alias itself says which of them is the
        // last word.
        Ok(None) => {
            tracing::info!(deployment = name, model = %alias.model, version = %alias.version,
                "alias moved again; this move is skipped");
            return Ok(());
        }
        // The registry is unavailable: the event is tried again.
        Err(problem) if problem.status().is_server_error() => return Err(problem),
        Ok(Some(to)) => Ok(to),
        Err(refused) => Err(refused),
    };
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    let Some(deployment) = deployments::lock(&mut transaction, name).await? else { return Ok(()) };
    let consumer = format!("{CONSUMER}/{name}");
    if !inbox::first_time(&mut transaction, &consumer, &received.id).await? {
        return Ok(());
    }
    notices::clear(&mut transaction, deployment.deployment_key, notices::ALIAS).await?;
    let changed = apply(state, &mut transaction, &deployment, alias, resolved).await?;
    transaction.commit().await?;
    changed.committed(state, name).await;
    Ok(())
}

/// Follows the moves that were recorded as pending while the kill switch was on. What fails is tried again
/// later.
pub(crate) async fn follow_pending(state: &State) -> Result<(), Problem> {
    let mut connection = state.pool.acquire().await?;
    let pending = deployments::pending_moves(&mut connection).await?;
    drop(connection);
    for deployment in pending {
        if let Err(problem) = follow_one(state, &deployment).await {
            tracing::warn!(deployment = %deployment.name, %problem,
                "pending alias move not followed; retrying");
        }
    }
    Ok(())
}

async fn follow_one(state: &State, deployment: &Deployment) -> Result<(), Problem> {
    let Some(pending) = deployment.last_alias_move.as_ref() else { return Ok(()) };
    let alias = AliasSet {
        model: deployment.model.clone(),
        alias: pending.alias.clone(),
        version: pending.version.clone(),
        unchanged: false,
        model_id: String::new(),
    };
    let resolved = match state.resolve_move(&deployment.name, &alias).await {
        Err(problem) if problem.status().is_server_error() => return Err(problem),
        resolved => resolved,
    };
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    let Some(locked) = deployments::lock_key(&mut transaction, deployment.deployment_key).await? else {
        return Ok(());
    };
    let is_same = locked.last_alias_move == deployment.last_alias_move;
    if !is_same || locked.traffic.thawed().is_err() {
        return Ok(());
    }
    let resolved = match resolved {
        Ok(Some(to)) => Ok(to),
        Err(refused) => Err(refused),
        Ok(None) => {
            let reason = format!("the alias {} no longer points at version {}", alias.alias, alias.version);
            let noted = Noted::new(AliasOutcome::NotRetried, reason, None);
            note(state, &mut transaction, &locked, &alias, noted).await?;
            transaction.commit().await?;
            state.committed();
            return Ok(());
        }
    };
    let changed = apply(state, &mut transaction, &locked, &alias, resolved).await?;
    transaction.commit().await?;
    changed.committed(state, &locked.name).await;
    Ok(())
}

/// Does what follows from the move of a locked deployment's alias, and notes it on the deployment.
async fn apply(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    alias: &AliasSet,
    resolved: Result<Target, Problem>,
) -> Result<Changed, Problem> {
    let (noted, changed) = match resolved {
        Err(problem) => {
            tracing::warn!(deployment = %deployment.name, model = %alias.model, version = %alias.version,
                %problem,
                "alias moved to a version that cannot be rolled out");
            let reason = problem.detail().to_owned();
            let changed = change::refuse(state, connection, deployment, &alias.version, &reason).await?;
            (Noted::new(AliasOutcome::NotServable, reason, changed.last_id()), changed)
        }
        Ok(to) => follow_to(state, connection, deployment, alias, to).await?,
    };
    note(state, connection, deployment, alias, noted).await?;
    Ok(changed)
}

/// What came of a move.
struct Noted {
    outcome: AliasOutcome,
    reason: String,
    rollout: Option<Uuid>,
}

impl Noted {
    fn new(outcome: AliasOutcome, reason: String, rollout: Option<Uuid>) -> Self {
        Self { outcome, reason, rollout }
    }
}

async fn follow_to(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    alias: &AliasSet,
    to: Target,
) -> Result<(Noted, Changed), Problem> {
    let newest = rollouts::newest(connection, deployment.deployment_key).await?;
    let moved = AliasMoved { to: &to, unchanged: alias.unchanged };
    let stable = deployment.traffic.stable.as_ref();
    let switch = deployment.traffic.thawed();
    let version = to.version.clone();
    let newest_id = newest.as_ref().map(|newest| newest.id);
    let newest = newest.as_ref().map(|newest| &newest.state.0);
    Ok(match follow_alias(moved, stable, newest, switch.is_err()) {
        AliasDecision::TurnBack => {
            let reason = format!("the alias {} points at version {version} again", alias.alias);
            let changed = change::turn_back(state, connection, deployment, &to, &reason).await?;
            let changed = changed.unwrap_or_default();
            (Noted::new(AliasOutcome::RolloutAborted, reason, newest_id), changed)
        }
        AliasDecision::AlreadyStable => {
            let reason = format!("version {version} is stable already");
            (Noted::new(AliasOutcome::AlreadyStable, reason, None), Changed::default())
        }
        AliasDecision::InProgress => {
            let reason = format!("a rollout of version {version} is in progress already");
            (Noted::new(AliasOutcome::InProgress, reason, newest_id), Changed::default())
        }
        AliasDecision::Pending => {
            let why = switch.err().map(|frozen| frozen.to_string()).unwrap_or_default();
            let reason = format!("{why}; the rollout of version {version} starts then");
            (Noted::new(AliasOutcome::Pending, reason, None), Changed::default())
        }
        AliasDecision::EndedBefore { phase, reason } => {
            let reason = format!(
                "the rollout of version {version} ended as {} ({reason}), and setting the alias again \
                 without moving it does not retry it; retry with `slipway rollouts start {} {version}`",
                phase.as_str(),
                deployment.name
            );
            (Noted::new(AliasOutcome::NotRetried, reason, newest_id), Changed::default())
        }
        AliasDecision::Start => {
            let wanted = Wanted { to, strategy: None, idempotency_key: None };
            let (stored, changed) = change::start(state, connection, deployment, wanted).await?;
            let reason = format!("a rollout of version {version} was started");
            (Noted::new(AliasOutcome::RolloutStarted, reason, Some(stored.id)), changed)
        }
    })
}

/// Stores what came of a move, and publishes it.
async fn note(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    alias: &AliasSet,
    noted: Noted,
) -> Result<(), Problem> {
    let Noted { outcome, reason, rollout } = noted;
    tracing::info!(deployment = %deployment.name, alias = %alias.alias, version = %alias.version,
        outcome = outcome.as_str(), %reason, "watched alias set");
    let moved = AliasMove {
        alias: alias.alias.clone(),
        version: alias.version.clone(),
        outcome,
        reason,
        rollout_id: rollout.map(|id| id.to_string()),
        at_unix_ms: now_unix_ms(),
    };
    deployments::set_alias_move(connection, deployment.deployment_key, Some(&moved)).await?;
    let event = DeploymentChange { alias_move: Some(moved), ..DeploymentChange::default() };
    tell(state, connection, deployment, "alias-moved", event).await
}
