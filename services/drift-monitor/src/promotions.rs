//! News of rollouts and deployments: the stable version, and with it the baseline, may be another, and so may
//! the deployment.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use slipway_api::events::EVENTS_STREAM;
use slipway_event_bus::permissions::durable;
use slipway_event_bus::{Consumer, Received};
use slipway_outbox::inbox;
use slipway_runtime::clock;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::store;

/// The place in the events stream, and the name in the inbox.
const CONSUMER: &str = durable::MONITOR_DEPLOYMENTS;
/// Another one of the same name: its rollouts are announced by these, too.
const IDENTITY: [&str; 2] =
    ["slipway.rollout-controller.deployment.created", "slipway.rollout-controller.deployment.deleted"];
const STABLE: [&str; 2] =
    ["slipway.rollout-controller.rollout.promoted", "slipway.rollout-controller.rollout.rolled-back"];

/// What all of these events tell.
#[derive(Debug, Deserialize)]
struct Change {
    deployment: String,
}

/// Follows deployments, promotions and rollbacks until `shutdown`.
pub(crate) async fn run(state: State, shutdown: CancellationToken) {
    let subjects = IDENTITY.iter().chain(&STABLE).map(ToString::to_string).collect();
    let consumer = Consumer::new(state.bus.clone(), EVENTS_STREAM, CONSUMER, subjects);
    consumer
        .run(shutdown, |received| {
            let state = state.clone();
            async move { handle(&state, &received).await.map_err(|error| error.to_string()) }
        })
        .await;
}

async fn handle(state: &State, received: &Received) -> anyhow::Result<()> {
    let change: Change = match received.parse() {
        Ok(change) => change,
        Err(error) => {
            // It will not parse the next time either.
            tracing::warn!(%error, event = %received.id, "event skipped");
            return Ok(());
        }
    };
    let since = DateTime::parse_from_rfc3339(&received.time)
        .map_or_else(|_| DateTime::<Utc>::from(clock::now()), |time| time.to_utc());
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    if inbox::first_time(&mut transaction, CONSUMER, &received.id).await? {
        if IDENTITY.contains(&received.subject.as_str()) {
            store::baselines::doubt_identity(&mut transaction, &change.deployment, since).await?;
        } else {
            store::baselines::doubt(&mut transaction, &change.deployment, since).await?;
        }
    }
    transaction.commit().await?;
    state.monitors_changed();
    Ok(())
}
