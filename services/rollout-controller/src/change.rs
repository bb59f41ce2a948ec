//! A change of a rollout: state, decisions, events and the intended traffic table in one transaction, and
//! then the table's copy in NATS KV.

use slipway_api::events::RolloutChange;
use slipway_api::traffic::{Target, TrafficTable};
use slipway_domain::rollout::{
    Action, Command, EventKind, NewRollout, Observation, Rollout, Strategy, TableState, WindowFacts,
    plan_table, step,
};
use slipway_http_server::Problem;
use slipway_outbox::inbox;
use slipway_runtime::clock::now_unix_ms;
use slipway_runtime::id;
use sqlx::PgConnection;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::state::State;
use crate::store::deployments::{self, Deployment};
use crate::store::rollouts::{self, NewDecision, NewRow, StoredRollout};
use crate::traffic_publisher::{self, Written};

/// A command, and the key under which its sender may send it again.
#[derive(Debug, Clone)]
pub(crate) struct Asked<'key> {
    pub(crate) command: Command,
    pub(crate) key: Option<&'key str>,
}

impl From<Command> for Asked<'_> {
    fn from(command: Command) -> Self {
        Self { command, key: None }
    }
}

/// Inbox of commands that came with a key.
const COMMANDS: &str = "commands";

/// Steps a rollout once, with a command or without. A command whose key was seen before changes nothing.
///
/// # Errors
/// There is no such rollout, its phase does not accept the command, or Postgres is unavailable.
pub(crate) async fn drive(
    state: &State,
    id: Uuid,
    asked: Option<Asked<'_>>,
) -> Result<StoredRollout, Problem> {
    let absent = || Problem::not_found(format!("rollout `{id}`"));
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    let before = rollouts::find(&mut transaction, id).await?.ok_or_else(absent)?;
    // The deployment's row is the lock of its rollouts; the state is read behind it.
    let Some(deployment) = deployments::lock_key(&mut transaction, before.deployment_key).await? else {
        return match asked {
            Some(_) => Err(Problem::conflict(format!(
                "rollout `{id}` belongs to a deployment `{}` that was deleted",
                before.deployment
            ))),
            None => Ok(before),
        };
    };
    let name = deployment.name.clone();
    let mut stored = rollouts::find(&mut transaction, id).await?.ok_or_else(absent)?;
    if let Some(Asked { key: Some(key), .. }) = &asked
        && !inbox::first_time(&mut transaction, COMMANDS, key).await?
    {
        return Ok(stored);
    }
    if let Some(asked) = &asked {
        let is_on = deployment.traffic.kill_switch.is_some();
        let accepted = stored.state.accepts(&asked.command, is_on);
        accepted.map_err(|refused| Problem::conflict(refused.to_string()))?;
    } else if !stored.state.is_active() {
        return Ok(stored);
    }
    let command = asked.map(|asked| asked.command);
    let Some((next, actions)) = decide(state, &stored, &deployment, command) else { return Ok(stored) };
    let span = span_of(&stored);
    let changed = async {
        stored.state.0 = next;
        let written = apply(state, &mut transaction, &deployment, &stored, &actions).await?;
        rollouts::save(&mut transaction, id, &stored.state).await?;
        transaction.commit().await?;
        state.committed();
        state.metrics.changed(&stored.state, &actions);
        if written.is_some() {
            traffic_publisher::soon(state, &name, written).await;
        }
        Ok(stored)
    };
    changed.instrument(span).await
}

/// Whether a rollout's next step would change anything now.
pub(crate) fn is_due(state: &State, stored: &StoredRollout, deployment: &Deployment) -> bool {
    decide(state, stored, deployment, None).is_some()
}

/// What comes next; `None` where everything stays as it is.
fn decide(
    state: &State,
    stored: &StoredRollout,
    deployment: &Deployment,
    command: Option<Command>,
) -> Option<(Rollout, Vec<Action>)> {
    let seen = observe(state, stored, deployment, command)?;
    let (next, actions) = step(&stored.state, &seen);
    (!actions.is_empty() || next != stored.state.0).then_some((next, actions))
}

/// Changed rollouts of a deployment that the caller commits. Metrics and other tasks are updated afterwards,
/// with [`Changed::committed`].
#[derive(Debug, Default)]
#[must_use = "call `committed` after the commit"]
pub(crate) struct Changed(Vec<ChangedRollout>);

#[derive(Debug)]
struct ChangedRollout {
    stored: StoredRollout,
    actions: Vec<Action>,
    written: Option<Written>,
}

impl Changed {
    fn one(stored: StoredRollout, actions: Vec<Action>, written: Option<Written>) -> Self {
        Self(vec![ChangedRollout { stored, actions, written }])
    }

    fn and(mut self, next: Self) -> Self {
        self.0.extend(next.0);
        self
    }

    /// Id of the rollout that was changed last.
    pub(crate) fn last_id(&self) -> Option<Uuid> {
        self.0.last().map(|changed| changed.stored.id)
    }

    /// The traffic table that the last change wrote, if it wrote one.
    pub(crate) fn table(&self) -> Option<&TrafficTable> {
        self.0.last()?.written.as_ref().map(|written| &written.table)
    }

    /// The same, where the table that was written does not last: its deployment is deleted.
    pub(crate) fn without_table(mut self) -> Self {
        self.0.iter_mut().for_each(|changed| changed.written = None);
        self
    }

    /// Tells everybody concerned that the change was committed.
    pub(crate) async fn committed(self, state: &State, deployment: &str) {
        state.committed();
        let mut last = None;
        for ChangedRollout { stored, actions, written } in self.0 {
            state.metrics.changed(&stored.state, &actions);
            last = written;
        }
        traffic_publisher::soon(state, deployment, last).await;
    }
}

/// Takes a locked deployment back to `to`, where the rollout in progress leads away from it. `None` where
/// none does.
///
/// # Errors
/// Postgres is unavailable.
pub(crate) async fn turn_back(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    to: &Target,
    reason: &str,
) -> Result<Option<Changed>, Problem> {
    let newest = rollouts::newest(connection, deployment.deployment_key).await?;
    let Some(newest) = newest.filter(|newest| newest.state.leads_away_from(to)) else { return Ok(None) };
    let command = Command::Abort { reason: reason.to_owned() };
    // Where it is not accepted, the rollout is on its way back already.
    obey(state, connection, deployment, newest, command).await.map(Some)
}

/// Gives a command to the rollout of a locked deployment that is in progress, if there is one and its phase
/// accepts the command.
///
/// # Errors
/// Postgres is unavailable.
pub(crate) async fn command_active(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    command: Command,
) -> Result<Changed, Problem> {
    let newest = rollouts::newest(connection, deployment.deployment_key).await?;
    match newest.filter(|newest| newest.state.is_active()) {
        Some(newest) => obey(state, connection, deployment, newest, command).await,
        None => Ok(Changed::default()),
    }
}

/// Gives a command to a rollout of a locked deployment; one that its phase does not accept changes nothing.
async fn obey(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    mut rollout: StoredRollout,
    command: Command,
) -> Result<Changed, Problem> {
    if rollout.state.accepts(&command, deployment.traffic.kill_switch.is_some()).is_err() {
        return Ok(Changed::default());
    }
    let Some((next, actions)) = decide(state, &rollout, deployment, Some(command)) else {
        return Ok(Changed::default());
    };
    rollout.state.0 = next;
    let written = apply(state, connection, deployment, &rollout, &actions).await?;
    rollouts::save(connection, rollout.id, &rollout.state).await?;
    Ok(Changed::one(rollout, actions, written))
}

/// A span of what started the rollout, so that one trace shows all of it. A request's own span wins.
fn span_of(stored: &StoredRollout) -> tracing::Span {
    let span = tracing::info_span!("rollout.decide", rollout_id = %stored.id, deployment = %stored.deployment,
        to_version = %stored.state.to().version);
    slipway_telemetry::set_parent(&span, stored.traceparent.as_deref());
    span
}

/// What is known now; `None` while the facts are still being read after a restart and no command was given.
fn observe(
    state: &State,
    stored: &StoredRollout,
    deployment: &Deployment,
    command: Option<Command>,
) -> Option<Observation> {
    let rollout = &stored.state.0;
    let facts = match state.facts.of(stored.id, rollout) {
        Some(facts) => facts,
        None if command.is_some() => state.facts.so_far(stored.id, &rollout.strategy().analysis),
        None => return None,
    };
    let facts = WindowFacts { ruled: !deployment.traffic.rules.is_empty(), ..facts };
    let (now, table) = (now_unix_ms(), &deployment.traffic.0);
    let table = if !plan_table(rollout, table, now).routes_like(table) {
        TableState::Differs
    } else if state.replicas.follow(&deployment.name, table.revision) {
        TableState::Applied
    } else {
        TableState::Written
    };
    let readiness = |target| state.replicas.readiness(&deployment.name, target);
    Some(Observation {
        now_unix_ms: now,
        target: readiness(rollout.to()),
        previous: rollout.from().map(readiness).unwrap_or_default(),
        table,
        kill_switch_on: deployment.traffic.kill_switch.is_some(),
        facts,
        command,
    })
}

/// Performs actions within the transaction. Answers with the traffic table, where it was written.
async fn apply(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    stored: &StoredRollout,
    actions: &[Action],
) -> Result<Option<Written>, Problem> {
    let rollout = &stored.state.0;
    let mut written = None;
    for action in actions {
        match action {
            Action::WriteTraffic(_) => {
                let traceparent = stored.traceparent.as_deref();
                let table = write_table(connection, deployment, rollout, traceparent).await?;
                written = Some(Written::behind_the_lock(state, table));
            }
            // The window is opened by the control loop, from the state.
            Action::BeginWindow => {}
            Action::RecordDecision { step, verdict, reason, evidence } => {
                let at_ms = i64::try_from(rollout.updated_at_unix_ms()).unwrap_or(i64::MAX);
                let decision = NewDecision { at_ms, step: *step, verdict: *verdict, reason, evidence };
                rollouts::insert_decision(connection, stored.id, &decision).await?;
            }
            Action::PublishEvent { kind, reason } => {
                publish(state, connection, stored, *kind, reason).await?;
            }
        }
    }
    tracing::info!(
        phase = rollout.phase().as_str(),
        weight_percent = rollout.weight_percent(),
        reason = rollout.reason(),
        "rollout advanced"
    );
    Ok(written)
}

async fn write_table(
    connection: &mut PgConnection,
    deployment: &Deployment,
    rollout: &Rollout,
    traceparent: Option<&str>,
) -> Result<TrafficTable, Problem> {
    let planned = plan_table(rollout, &deployment.traffic, now_unix_ms());
    let traceparent = slipway_telemetry::current_traceparent().or_else(|| traceparent.map(str::to_owned));
    let table = TrafficTable { traceparent, ..planned };
    table
        .validate()
        .map_err(|invalid| Problem::internal(format!("the planned traffic table is not valid: {invalid}")))?;
    deployments::set_traffic(connection, deployment.deployment_key, &table).await?;
    Ok(table)
}

async fn publish(
    state: &State,
    connection: &mut PgConnection,
    stored: &StoredRollout,
    kind: EventKind,
    reason: &str,
) -> Result<(), Problem> {
    let rollout = &stored.state.0;
    let event = RolloutChange {
        rollout_id: stored.id.to_string(),
        deployment: stored.deployment.clone(),
        model: stored.model.clone(),
        what: kind.as_str().to_owned(),
        from_version: rollout.from().map(|from| from.version.clone()),
        to_version: rollout.to().version.clone(),
        weight_percent: rollout.weight_percent(),
        reason: reason.to_owned(),
        actor: crate::actor::current(),
    };
    state.outbox.enqueue(connection, &event).await?;
    Ok(())
}

/// Starts a rollout of a locked deployment. One to another version that is in progress is ended first, one to
/// the same version is the answer. The caller commits, and calls [`Changed::committed`] then.
///
/// # Errors
/// The kill switch is on, the version is stable already, the strategy is not valid, a rollout of the version
/// is in progress with another strategy, or the rollout in progress cannot be ended now.
pub(crate) async fn start(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    wanted: Wanted<'_>,
) -> Result<(StoredRollout, Changed), Problem> {
    deployment.traffic.thawed().map_err(|frozen| Problem::conflict(frozen.to_string()))?;
    let mut deployment = deployment.clone();
    let mut changed = Changed::default();
    if let Some(newest) = rollouts::newest(connection, deployment.deployment_key).await?
        && newest.state.is_active()
    {
        if newest.state.leads_to(&wanted.to) {
            same_strategy(&newest, wanted.strategy.as_ref())?;
            return Ok((newest, changed));
        }
        changed = supersede(state, connection, &mut deployment, newest, &wanted.to.version).await?;
    }
    let (stored, started) = start_first(state, connection, &deployment, wanted).await?;
    Ok((stored, changed.and(started)))
}

/// [`start`] for a deployment that has no rollout in progress.
///
/// # Errors
/// The strategy is not valid.
pub(crate) async fn start_first(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    wanted: Wanted<'_>,
) -> Result<(StoredRollout, Changed), Problem> {
    let id = id::time_ordered();
    let strategy = wanted.strategy.unwrap_or_else(|| deployment.default_strategy.0.clone());
    let new = new_rollout(id, deployment, wanted.to, strategy);
    let (rollout, actions) = Rollout::start(new, now_unix_ms())
        .map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    let stored = insert(connection, deployment, id, &rollout, wanted.idempotency_key).await?;
    let written = apply(state, connection, deployment, &stored, &actions).await?;
    Ok((stored.clone(), Changed::one(stored, actions, written)))
}

fn new_rollout(id: Uuid, deployment: &Deployment, to: Target, strategy: Strategy) -> NewRollout {
    NewRollout {
        id: id.to_string(),
        deployment: deployment.name.clone(),
        from: deployment.traffic.stable.clone(),
        to,
        strategy,
    }
}

/// A rollout in progress keeps its strategy. A caller that asks for another one has to end it first.
fn same_strategy(in_progress: &StoredRollout, wanted: Option<&Strategy>) -> Result<(), Problem> {
    if wanted.is_none_or(|wanted| wanted == in_progress.state.strategy()) {
        return Ok(());
    }
    let (id, version) = (in_progress.id, &in_progress.state.to().version);
    Err(Problem::conflict(format!(
        "`strategy`: rollout {id} of version {version} is in progress with another strategy, and a rollout \
         keeps the one that it was started with; abort it first (`slipway rollouts abort {id}`), or leave \
         `strategy` out"
    )))
}

/// Stores a rollout that starts, with the trace of the request that started it.
async fn insert(
    connection: &mut PgConnection,
    deployment: &Deployment,
    id: Uuid,
    rollout: &Rollout,
    idempotency_key: Option<&str>,
) -> Result<StoredRollout, Problem> {
    let traceparent = slipway_telemetry::current_traceparent();
    let row = NewRow {
        id,
        deployment_key: deployment.deployment_key,
        model: &deployment.model,
        state: rollout,
        traceparent: traceparent.as_deref(),
        idempotency_key,
    };
    Ok(rollouts::insert(connection, &row).await?)
}

/// Records that a version was to be rolled out and cannot be, as a failed rollout that shows why.
///
/// # Errors
/// Postgres is unavailable.
pub(crate) async fn refuse(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    version: &str,
    reason: &str,
) -> Result<Changed, Problem> {
    let id = id::time_ordered();
    let to = Target { version: version.to_owned(), digest: String::new() };
    let new = new_rollout(id, deployment, to, deployment.default_strategy.0.clone());
    let now_unix_ms = now_unix_ms();
    // It never starts, so what a start asks for is not done.
    let Ok((rollout, _)) = Rollout::start(new, now_unix_ms) else { return Ok(Changed::default()) };
    let command = Some(Command::Refuse { reason: reason.to_owned() });
    let (refused, actions) = step(&rollout, &Observation { now_unix_ms, command, ..Observation::default() });
    let stored = insert(connection, deployment, id, &refused, None).await?;
    let written = apply(state, connection, deployment, &stored, &actions).await?;
    Ok(Changed::one(stored, actions, written))
}

/// What is to be rolled out.
#[derive(Debug)]
pub(crate) struct Wanted<'key> {
    pub(crate) to: Target,
    /// `None`: the deployment's own.
    pub(crate) strategy: Option<Strategy>,
    pub(crate) idempotency_key: Option<&'key str>,
}

/// Ends a rollout in progress, because the rollout of another version replaces it.
async fn supersede(
    state: &State,
    connection: &mut PgConnection,
    deployment: &mut Deployment,
    old: StoredRollout,
    successor: &str,
) -> Result<Changed, Problem> {
    let command = Command::Supersede { by_version: successor.to_owned() };
    old.state.accepts(&command, deployment.traffic.kill_switch.is_some()).map_err(|refused| {
        let id = old.id;
        Problem::conflict(format!("rollout `{id}` is in progress and cannot be ended yet: {refused}"))
    })?;
    let changed = obey(state, connection, deployment, old, command).await?;
    // The successor's table follows the one that was just written.
    let fresh = deployments::find(connection, &deployment.name).await?;
    *deployment = fresh.ok_or_else(|| Problem::not_found(format!("deployment `{}`", deployment.name)))?;
    Ok(changed)
}
