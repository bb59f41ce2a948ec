//! An alias was moved: deployments that watch it roll the version out.

use slipway_api::events::{ALIAS_SET, AliasSet, EVENTS_STREAM};
use slipway_event_bus::{Consumer, EventBus, Received, inbox};
use slipway_service_kit::Problem;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::change::{self, Wanted};
use crate::project;
use crate::state::{State, outbox_problem};
use crate::store::deployments;

/// Name of the durable subscription and of the inbox.
const CONSUMER: &str = "rollout-controller-alias";

/// Listens until `shutdown`.
pub(crate) async fn run(bus: EventBus, state: State, shutdown: CancellationToken) {
    let consumer = Consumer::new(bus, EVENTS_STREAM, CONSUMER, vec![ALIAS_SET.to_owned()]);
    let handler = |received: Received| {
        let state = state.clone();
        let span = tracing::info_span!("alias.follow", event = %received.id);
        slipway_telemetry::set_parent(&span, received.traceparent.as_deref());
        async move { follow(&state, &received).await }.instrument(span)
    };
    consumer.run(shutdown, handler).await;
}

async fn follow(state: &State, received: &Received) -> Result<(), String> {
    let alias: AliasSet = match received.parse() {
        Ok(alias) => alias,
        Err(error) => {
            // It would not parse the next time either.
            tracing::error!(%error, event = %received.id, "an event does not parse and is left out");
            return Ok(());
        }
    };
    let mut connection = state.pool.acquire().await.map_err(|error| error.to_string())?;
    let watching = deployments::watching(&mut connection, &alias.model, &alias.alias).await;
    let watching = watching.map_err(|error| error.to_string())?;
    drop(connection);
    for deployment in watching {
        // Each with its own inbox entry: what was done for one is not done again because another failed.
        roll_out(state, received, &alias, &deployment).await.map_err(|problem| problem.to_string())?;
    }
    Ok(())
}

async fn roll_out(state: &State, received: &Received, alias: &AliasSet, name: &str) -> Result<(), Problem> {
    let resolved = state.resolve_version(&alias.model, &alias.version).await;
    if let Err(problem) = &resolved
        && problem.status().is_server_error()
    {
        return resolved.map(drop);
    }
    let mut transaction = state.pool.begin().await?;
    let Some(deployment) = deployments::lock(&mut transaction, name).await? else { return Ok(()) };
    let consumer = format!("{CONSUMER}/{name}");
    if !inbox::first_time(&mut transaction, &consumer, &received.id).await.map_err(outbox_problem)? {
        return Ok(());
    }
    match resolved {
        Err(problem) => {
            tracing::warn!(deployment = name, model = %alias.model, version = %alias.version, %problem,
                "the alias was moved to a version that cannot be rolled out");
            change::refuse(state, &mut transaction, &deployment, &alias.version, problem.detail()).await?;
        }
        Ok(to) if deployment.traffic.stable.as_ref() == Some(&to) => {}
        Ok(to) => {
            let strategy = deployment.default_strategy.0.clone();
            let wanted = Wanted { to, strategy, idempotency_key: None };
            change::start(state, &mut transaction, &deployment, wanted).await?;
        }
    }
    transaction.commit().await?;
    state.committed();
    project::soon(state, name).await;
    Ok(())
}
