//! What happens to the registered model of a deployment: it is renamed, its watched alias or a version in use
//! is deleted.
//!
//! A rename changes a label, in the deployment, its rollouts and its traffic table; targets and weights stay,
//! so replicas load nothing and interrupt nothing. Deployments are found by the model's identity. It is
//! filled in by [`identify`], which also notices a rename whose event was lost or came before the deployment.

use std::time::Duration;

use serde_json::Value;
use slipway_api::events::{DeploymentChange, EVENTS_STREAM, MODEL_RENAMED, ModelRenamed, RegistryChange};
use slipway_api::proto::registry::GetModelVersionRequest;
use slipway_event_bus::permissions::durable;
use slipway_event_bus::{Consumer, EventBus, Received};
use slipway_http_server::Problem;
use slipway_outbox::inbox;
use slipway_runtime::clock::now_unix_ms_column;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::change::Changed;
use crate::manage::tell;
use crate::overrides::set_table;
use crate::state::State;
use crate::store::identity::{Model, ModelName};
use crate::store::notices::NewNotice;
use crate::store::{deployments, identity, notices};

/// Name of the durable subscription and of the inbox.
const CONSUMER: &str = durable::CONTROLLER_MODELS;
const ALIAS_DELETED: &str = "slipway.registry.alias.deleted";
const VERSION_DELETED: &str = "slipway.registry.model-version.deleted";
/// How often deployments without a known model identity are looked for.
const IDENTIFY_INTERVAL_MS: u64 = 2_000;
/// After this many rounds all deployments are compared with the registry: an event may have been lost.
const ROUNDS_PER_COMPARISON: u32 = 30;
const IDENTIFIED_AT_ONCE: i64 = 1_000;

/// Follows events until `shutdown`.
pub(crate) async fn run(bus: EventBus, state: State, shutdown: CancellationToken) {
    let subjects = [MODEL_RENAMED, ALIAS_DELETED, VERSION_DELETED].map(str::to_owned).to_vec();
    let consumer = Consumer::new(bus, EVENTS_STREAM, CONSUMER, subjects);
    let handler = |received: Received| {
        let state = state.clone();
        let span = tracing::info_span!("model.follow", event = %received.id);
        slipway_telemetry::set_parent(&span, received.traceparent.as_deref());
        async move { handle(&state, &received).await.map_err(|problem| problem.to_string()) }.instrument(span)
    };
    Box::pin(consumer.run(shutdown, handler)).await;
}

async fn handle(state: &State, received: &Received) -> Result<(), Problem> {
    let skip = |error: slipway_event_bus::Error| {
        // It would not parse the next time either.
        tracing::error!(%error, event = %received.id, "event does not parse; skipped");
    };
    if received.subject == MODEL_RENAMED {
        let Ok(renamed) = received.parse::<ModelRenamed>().map_err(skip) else { return Ok(()) };
        return renamed_to(state, &renamed).await;
    }
    let Ok(change) = received.parse::<RegistryChange>().map_err(skip) else { return Ok(()) };
    let text = |name: &str| change.details.get(name).and_then(Value::as_str).unwrap_or_default();
    if received.subject == ALIAS_DELETED {
        return alias_deleted(state, received, text("model"), text("alias")).await;
    }
    if change.details.get("forced").and_then(Value::as_bool) == Some(true) {
        return version_deleted(state, received, text("model"), text("version")).await;
    }
    Ok(())
}

async fn renamed_to(state: &State, renamed: &ModelRenamed) -> Result<(), Problem> {
    let revision = i64::from(renamed.name_revision);
    let mut connection = state.pool.acquire().await?;
    let found = identity::to_rename(&mut connection, &renamed.model_id, &renamed.from, revision).await?;
    drop(connection);
    for name in found {
        follow(state, &name, &renamed.model_id, ModelName { name: &renamed.to, revision }).await?;
    }
    Ok(())
}

/// Gives a deployment the identity and the present name of its model.
async fn follow(
    state: &State,
    deployment: &str,
    model_id: &str,
    model: ModelName<'_>,
) -> Result<(), Problem> {
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    let Some(locked) = deployments::lock(&mut transaction, deployment).await? else { return Ok(()) };
    if !identity::set(&mut transaction, locked.deployment_key, model_id, model).await? {
        return Ok(());
    }
    if locked.model == model.name {
        transaction.commit().await?;
        return Ok(());
    }
    set_table(&mut transaction, &locked, |table| model.name.clone_into(&mut table.model)).await?;
    let Some(current) = deployments::find(&mut transaction, deployment).await? else { return Ok(()) };
    tell(state, &mut transaction, &current, "model-renamed", DeploymentChange::default()).await?;
    transaction.commit().await?;
    tracing::info!(deployment, from = %locked.model, to = model.name,
        "deployment follows the rename of its model");
    Changed::default().committed(state, deployment).await;
    Ok(())
}

async fn alias_deleted(state: &State, received: &Received, model: &str, alias: &str) -> Result<(), Problem> {
    let mut connection = state.pool.acquire().await?;
    let watching = identity::watching_alias(&mut connection, Model { id: "", name: model }, alias).await?;
    drop(connection);
    let message = format!(
        "the watched alias `{alias}` was deleted: the versions in use stay, and nothing is rolled out until \
         the alias is set again"
    );
    for name in watching {
        let new = NewNotice { about: notices::ALIAS, message: &message };
        notice(state, received, &name, new, "alias-deleted").await?;
    }
    Ok(())
}

async fn version_deleted(
    state: &State,
    received: &Received,
    model: &str,
    version: &str,
) -> Result<(), Problem> {
    let mut connection = state.pool.acquire().await?;
    let serving = identity::serving(&mut connection, model, version).await?;
    drop(connection);
    let message = format!(
        "version {version} was deleted from the registry by force: replicas that have it continue to serve \
         it, replicas that start later cannot load it; roll out another version"
    );
    for name in serving {
        let about = notices::about_version(version);
        let new = NewNotice { about: &about, message: &message };
        notice(state, received, &name, new, "version-deleted").await?;
    }
    Ok(())
}

/// Stores a notice about a deployment and publishes that there is one, once per event.
async fn notice(
    state: &State,
    received: &Received,
    deployment: &str,
    new: NewNotice<'_>,
    what: &str,
) -> Result<(), Problem> {
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    let Some(locked) = deployments::lock(&mut transaction, deployment).await? else { return Ok(()) };
    let consumer = format!("{CONSUMER}/{deployment}");
    if inbox::first_time(&mut transaction, &consumer, &received.id).await? {
        let at_ms = now_unix_ms_column();
        notices::set(&mut transaction, locked.deployment_key, new, at_ms).await?;
        tell(state, &mut transaction, &locked, what, DeploymentChange::default()).await?;
        tracing::warn!(deployment, message = new.message, "notice about the deployment");
    }
    transaction.commit().await?;
    state.committed();
    Ok(())
}

/// Looks up the model identity of new deployments until `shutdown`.
pub(crate) async fn identify(state: State, shutdown: CancellationToken) {
    for round in 1_u32.. {
        tokio::select! {
            () = shutdown.cancelled() => return,
            done = identify_once(&state, round.is_multiple_of(ROUNDS_PER_COMPARISON)) => {
                if let Err(problem) = done {
                    tracing::debug!(%problem, "model identities not resolved; retrying");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(IDENTIFY_INTERVAL_MS)) => {}
        }
    }
}

async fn identify_once(state: &State, all: bool) -> Result<(), Problem> {
    let mut connection = state.pool.acquire().await?;
    let found = identity::unidentified(&mut connection, all, IDENTIFIED_AT_ONCE).await?;
    drop(connection);
    for deployment in found {
        let request = GetModelVersionRequest {
            model: deployment.model,
            version: deployment.version,
            for_deployment: String::new(),
            digest: String::new(),
        };
        // A version that is gone leaves the deployment with the name alone.
        let Ok(version) = state.registry.clone().get_model_version(request).await else { continue };
        let version = version.into_inner();
        // Another model may have taken the name.
        if !version.model_id.is_empty() && version.digest == deployment.digest {
            let revision = i64::from(version.model_name_revision);
            let name = ModelName { name: &version.model, revision };
            follow(state, &deployment.name, &version.model_id, name).await?;
        }
    }
    Ok(())
}
