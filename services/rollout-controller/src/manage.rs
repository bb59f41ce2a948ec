//! What REST and gRPC share: creating and deleting deployments, starting rollouts, rolling back, pausing.

use slipway_api::events::DeploymentChange;
use slipway_api::rest::rollouts::{NewDeployment, NewRollout};
use slipway_api::traffic::{Rule, StickyKey, TrafficTable};
use slipway_domain::rollout::{Command, Strategy};
use slipway_http_server::Problem;
use slipway_runtime::clock::{now_unix_ms, now_unix_ms_column};
use slipway_runtime::id;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::change::{self, Asked, Wanted};
use crate::state::State;
use crate::store::deployments::{self, Deployment, NewDeployment as NewRow, Origin};
use crate::store::rollouts::{self, StoredRollout};

const MAX_NAME_CHARS: usize = 63;
/// The namespace of an object, and its own name.
const MAX_RESOURCE_NAME_CHARS: usize = 2 * MAX_NAME_CHARS + 1;
const MAX_MODEL_CHARS: usize = 256;

/// The deployment of that name.
pub(crate) async fn find(connection: &mut PgConnection, name: &str) -> Result<Deployment, Problem> {
    deployments::find(connection, name).await?.ok_or_else(|| absent(name))
}

pub(crate) fn absent(name: &str) -> Problem {
    Problem::not_found(format!("deployment `{name}`"))
}

/// Creates a deployment, by itself or for an object of a Kubernetes cluster, and starts the rollout of its
/// first version. Answers with both.
pub(crate) async fn create(
    state: &State,
    new: NewDeployment,
    origin: Option<&Origin>,
) -> Result<(Deployment, StoredRollout), Problem> {
    let strategy = Strategy::from(new.default_strategy.clone());
    check(&new, &strategy, if origin.is_some() { MAX_RESOURCE_NAME_CHARS } else { MAX_NAME_CHARS })?;
    let to = match (&new.version, &new.alias) {
        (Some(version), None) => state.resolve_version(&new.name, &new.model, version).await?,
        (None, Some(alias)) => state.resolve_alias(&new.name, &new.model, alias).await?,
        _ => return Err(Problem::invalid("version", "expected either `version` or `alias`")),
    };
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let id = id::random();
    let table = TrafficTable {
        revision: deployments::last_revision(&mut transaction, &new.name).await?,
        sticky_key: new.sticky_key.map(StickyKey::from),
        prediction_output: new.prediction_output,
        dedicated: new.dedicated,
        rules: new.rules.into_iter().map(Rule::from).collect(),
        deployment_id: Some(id.to_string()),
        decided_at_unix_ms: now_unix_ms(),
        ..TrafficTable::empty(new.name, new.model)
    };
    table.validate().map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    let row = NewRow {
        id,
        watch_alias: new.watch_alias.as_deref(),
        default_strategy: &strategy,
        traffic: &table,
        now_ms: now_unix_ms_column(),
        origin,
    };
    let mut deployment = deployments::insert(&mut transaction, &row).await?.ok_or_else(|| {
        Problem::conflict(format!("`name`: deployment `{}` exists already", table.deployment))
    })?;
    tell(state, &mut transaction, &deployment, "created", DeploymentChange::default()).await?;
    let wanted = Wanted { to, strategy: None, idempotency_key: None };
    let (started, changed) = change::start_first(state, &mut transaction, &deployment, wanted).await?;
    transaction.commit().await?;
    if let Some(table) = changed.table() {
        deployment.traffic.0 = table.clone();
    }
    changed.committed(state, &deployment.name).await;
    Ok((deployment, started))
}

fn check(new: &NewDeployment, strategy: &Strategy, max_name_chars: usize) -> Result<(), Problem> {
    let mut characters = new.name.chars();
    let valid = characters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && characters.all(|character| character.is_ascii_alphanumeric() || "-_".contains(character))
        && new.name.len() <= max_name_chars;
    if !valid {
        return Err(Problem::invalid(
            "name",
            format!("expected 1 to {max_name_chars} letters, digits, '-' and '_', a letter or digit first"),
        ));
    }
    if new.model.is_empty() || new.model.chars().count() > MAX_MODEL_CHARS || new.model.contains('\0') {
        return Err(Problem::invalid("model", "expected the name of a registered model"));
    }
    check_settings(new.watch_alias.as_deref(), strategy)
}

/// Checks what a deployment is created with and may be changed later.
pub(crate) fn check_settings(watch_alias: Option<&str>, strategy: &Strategy) -> Result<(), Problem> {
    if watch_alias.is_some_and(|alias| alias.is_empty() || alias.contains('\0')) {
        return Err(Problem::invalid("watch_alias", "expected the name of an alias"));
    }
    strategy
        .validate()
        .map_err(|invalid| Problem::invalid(format!("default_strategy.{}", invalid.field), invalid.message))
}

/// Publishes `what` happened to a deployment, with the `details` of it.
pub(crate) async fn tell(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    what: &str,
    details: DeploymentChange,
) -> Result<(), Problem> {
    let event = DeploymentChange {
        deployment: deployment.name.clone(),
        model: deployment.model.clone(),
        what: what.to_owned(),
        deployment_id: deployment.id.to_string(),
        actor: crate::actor::current(),
        ..details
    };
    state.outbox.enqueue(connection, &event).await?;
    Ok(())
}

/// Deletes a deployment; a rollout of it that is in progress ends with it.
pub(crate) async fn delete(state: &State, name: &str) -> Result<(), Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    let changed = change::command_active(state, &mut transaction, &deployment, Command::Delete).await?;
    tell(state, &mut transaction, &deployment, "deleted", DeploymentChange::default()).await?;
    deployments::delete(&mut transaction, deployment.deployment_key, now_unix_ms_column()).await?;
    transaction.commit().await?;
    changed.without_table().committed(state, name).await;
    Ok(())
}

/// A rollout as a client asks for it.
#[derive(Debug)]
pub(crate) struct Requested {
    pub(crate) version: String,
    pub(crate) strategy: Option<Strategy>,
    pub(crate) idempotency_key: Option<String>,
}

impl From<NewRollout> for Requested {
    fn from(NewRollout { version, strategy, idempotency_key }: NewRollout) -> Self {
        Self { version, strategy: strategy.map(Strategy::from), idempotency_key }
    }
}

/// Starts a rollout; `false` where the one that is meant is there already.
pub(crate) async fn start(
    state: &State,
    name: &str,
    new: Requested,
) -> Result<(StoredRollout, bool), Problem> {
    let mut connection = state.pool.acquire().await?;
    let known = find(&mut connection, name).await?;
    if let Some(found) = started_before(&mut connection, &known, &new).await? {
        return Ok((found, false));
    }
    if let Some(strategy) = &new.strategy {
        strategy
            .validate()
            .map_err(|invalid| Problem::invalid(format!("strategy.{}", invalid.field), invalid.message))?;
    }
    drop(connection);
    known.traffic.thawed().map_err(|frozen| Problem::conflict(frozen.to_string()))?;
    let to = state.resolve_version(name, &known.model, &new.version).await?;
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let deployment = deployments::lock(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    // Behind the lock once more: the same request may have come twice at the same time.
    if let Some(found) = started_before(&mut transaction, &deployment, &new).await? {
        return Ok((found, false));
    }
    let before = rollouts::newest(&mut transaction, deployment.deployment_key).await?;
    let strategy = new.strategy;
    let wanted = Wanted { to, strategy, idempotency_key: new.idempotency_key.as_deref() };
    let (stored, changed) = change::start(state, &mut transaction, &deployment, wanted).await?;
    transaction.commit().await?;
    changed.committed(state, name).await;
    let is_new = before.is_none_or(|before| before.id != stored.id);
    Ok((stored, is_new))
}

/// The rollout that the request's key was used for.
async fn started_before(
    connection: &mut PgConnection,
    deployment: &Deployment,
    new: &Requested,
) -> Result<Option<StoredRollout>, Problem> {
    let Some(key) = &new.idempotency_key else { return Ok(None) };
    let Some(found) = rollouts::find_by_key(connection, key).await? else { return Ok(None) };
    let same_strategy = new.strategy.as_ref().is_none_or(|strategy| strategy == found.state.strategy());
    if found.deployment_key == deployment.deployment_key
        && found.state.to().version == new.version
        && same_strategy
    {
        return Ok(Some(found));
    }
    let detail = format!("`idempotency_key`: it belongs to rollout {}, which is a different one", found.id);
    Err(Problem::conflict(detail))
}

/// Rolls the newest rollout back, or rolls out `to_version` immediately.
pub(crate) async fn roll_back(
    state: &State,
    name: &str,
    to_version: Option<String>,
    reason: &str,
) -> Result<(), Problem> {
    let mut connection = state.pool.acquire().await?;
    let deployment = find(&mut connection, name).await?;
    let newest = rollouts::newest(&mut connection, deployment.deployment_key).await?;
    drop(connection);
    let command = Command::Rollback { reason: reason.to_owned() };
    let takes_back = newest.filter(|newest| {
        let from = newest.state.from().map(|from| from.version.as_str());
        let meant = to_version.is_none() || to_version.as_deref() == from;
        meant && newest.state.accepts(&command, false).is_ok()
    });
    match (takes_back, to_version) {
        (Some(rollout), _) => change::drive(state, rollout.id, Some(command.into())).await.map(drop),
        (None, Some(version)) => {
            let strategy = Some(Strategy::immediate());
            start(state, name, Requested { version, strategy, idempotency_key: None }).await.map(drop)
        }
        (None, None) => {
            let stable = deployment.traffic.stable.as_ref().map_or("none", |stable| stable.version.as_str());
            Err(Problem::conflict(format!(
                "there is nothing to roll back: version {stable} is stable and no rollout of `{name}` can be \
                 undone; name a version with `to_version`"
            )))
        }
    }
}

/// Pauses what is in progress; `None` where nothing is. The same key pauses once.
pub(crate) async fn pause(
    state: &State,
    name: &str,
    reason: &str,
    key: Option<&str>,
) -> Result<Option<StoredRollout>, Problem> {
    let mut connection = state.pool.acquire().await?;
    let deployment = find(&mut connection, name).await?;
    let newest = rollouts::newest(&mut connection, deployment.deployment_key).await?;
    drop(connection);
    let Some(newest) = newest.filter(|newest| newest.state.is_active()) else { return Ok(None) };
    let command = Command::Pause { reason: reason.to_owned() };
    if newest.state.accepts(&command, false).is_err() {
        // Paused already, or about to end: there is nothing to hold.
        return Ok(Some(newest));
    }
    change::drive(state, newest.id, Some(Asked { command, key })).await.map(Some)
}

/// The id in a path; what is no id names no rollout.
pub(crate) fn rollout_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::not_found(format!("rollout `{text}`")))
}

/// The rollout of that id.
pub(crate) async fn rollout(connection: &mut PgConnection, id: Uuid) -> Result<StoredRollout, Problem> {
    let found = rollouts::find(connection, id).await?;
    found.ok_or_else(|| Problem::not_found(format!("rollout `{id}`")))
}
