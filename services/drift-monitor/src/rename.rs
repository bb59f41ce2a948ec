//! A rename of the registered model that a monitor is about: the monitor, its baseline, its windows and its
//! open window stay.

use slipway_api::events::{EVENTS_STREAM, MODEL_RENAMED, ModelRenamed};
use slipway_api::proto::registry::GetModelVersionRequest;
use slipway_event_bus::permissions::durable;
use slipway_event_bus::{Consumer, Received};
use slipway_outbox::inbox;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::store::monitors;

/// The place in the events stream, and the name in the inbox.
const CONSUMER: &str = durable::MONITOR_MODELS;

/// Follows renames until `shutdown`.
pub(crate) async fn run(state: State, shutdown: CancellationToken) {
    let consumer = Consumer::new(state.bus.clone(), EVENTS_STREAM, CONSUMER, vec![MODEL_RENAMED.to_owned()]);
    consumer
        .run(shutdown, |received| {
            let state = state.clone();
            async move { handle(&state, &received).await.map_err(|error| error.to_string()) }
        })
        .await;
}

async fn handle(state: &State, received: &Received) -> anyhow::Result<()> {
    let renamed: ModelRenamed = match received.parse() {
        Ok(renamed) => renamed,
        Err(error) => {
            // It will not parse the next time either.
            tracing::warn!(%error, event = %received.id, "event does not parse; skipped");
            return Ok(());
        }
    };
    let mut transaction = slipway_lease::begin(&state.pool).await?;
    if inbox::first_time(&mut transaction, CONSUMER, &received.id).await? {
        monitors::rename_model(&mut transaction, &renamed.from, &renamed.to).await?;
    }
    transaction.commit().await?;
    state.monitors_changed();
    Ok(())
}

/// Whether the model of a monitor, `from`, is called `to` now, which its deployment serves as `version`. The
/// rollout controller may follow a rename first, and events can be lost. The monitors have the present name
/// then.
pub(crate) async fn caught_up(state: &State, from: &str, to: &str, version: &str) -> anyhow::Result<bool> {
    let request = GetModelVersionRequest {
        model: from.to_owned(),
        version: version.to_owned(),
        for_deployment: String::new(),
        digest: String::new(),
    };
    // The registry answers with the present name.
    let is_renamed = match state.registry.clone().get_model_version(request).await {
        Ok(found) => found.into_inner().model == to,
        Err(_) => false,
    };
    if is_renamed {
        let mut transaction = slipway_lease::begin(&state.pool).await?;
        monitors::rename_model(&mut transaction, from, to).await?;
        transaction.commit().await?;
        state.monitors_changed();
    }
    Ok(is_renamed)
}
