//! An alias was moved: deployments that watch it roll the version out.

use slipway_api::events::{ALIAS_SET, AliasSet, EVENTS_STREAM};
use slipway_api::traffic::Target;
use slipway_event_bus::{Consumer, EventBus, Received, inbox};
use slipway_service_kit::Problem;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::change::{self, Changed, Wanted};
use crate::state::{State, outbox_problem};
use crate::store::deployments::{self, Deployment};

/// Name of the durable subscription and of the inbox.
const CONSUMER: &str = "rollout-controller-alias";

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
    let resolved = match state.resolve_move(alias).await {
        // A delivery that failed comes again after later ones. The alias itself says which of them is the last word.
        Ok(None) => {
            tracing::info!(deployment = name, model = %alias.model, version = %alias.version,
                "the alias has moved on since and this move is left out");
            return Ok(());
        }
        // The registry is away: the event is tried again.
        Err(problem) if problem.status().is_server_error() => return Err(problem),
        Ok(Some(to)) => Ok(to),
        Err(refused) => Err(refused),
    };
    let mut transaction = state.pool.begin().await?;
    let Some(deployment) = deployments::lock(&mut transaction, name).await? else { return Ok(()) };
    let consumer = format!("{CONSUMER}/{name}");
    if !inbox::first_time(&mut transaction, &consumer, &received.id).await.map_err(outbox_problem)? {
        return Ok(());
    }
    let changed = match resolved {
        Err(problem) => {
            tracing::warn!(deployment = name, model = %alias.model, version = %alias.version, %problem,
                "the alias was moved to a version that cannot be rolled out");
            Some(
                change::refuse(state, &mut transaction, &deployment, &alias.version, problem.detail())
                    .await?,
            )
        }
        Ok(to) => follow_to(state, &mut transaction, &deployment, alias, to).await?,
    };
    transaction.commit().await?;
    if let Some(changed) = changed {
        changed.committed(state, name).await;
    }
    Ok(())
}

/// Brings a locked deployment to where the alias points; `None` where it is there.
async fn follow_to(
    state: &State,
    connection: &mut PgConnection,
    deployment: &Deployment,
    alias: &AliasSet,
    to: Target,
) -> Result<Option<Changed>, Problem> {
    let reason = format!("the alias {} points at version {} again", alias.alias, to.version);
    if let Some(changed) = change::turn_back(state, connection, deployment, &to, &reason).await? {
        return Ok(Some(changed));
    }
    if deployment.traffic.stable.as_ref() == Some(&to) {
        return Ok(None);
    }
    let strategy = deployment.default_strategy.0.clone();
    let wanted = Wanted { to, strategy, idempotency_key: None };
    change::start(state, connection, deployment, wanted).await.map(|(_, changed)| Some(changed))
}
