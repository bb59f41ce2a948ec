//! Tells the other replicas that monitors have changed. Hints may get lost: whoever waits for them also looks
//! from time to time.

use std::time::Duration;

use futures::StreamExt as _;
use slipway_event_bus::wake_subject;
use slipway_runtime::id;
use tokio_util::sync::CancellationToken;

use crate::state::{State, count};

/// Name of the service, and with it the subject of its hints.
const SERVICE: &str = "drift-monitor";
/// Changes within this time make one hint.
const GATHER_MS: u64 = 10;
/// Pause before hints are listened to again.
const RETRY_MS: u64 = 1_000;

/// Tells and listens until `shutdown`.
pub(crate) async fn run(state: State, shutdown: CancellationToken) {
    // The relay uses the subject, too, and its hints have no body.
    let own = format!("monitors {}", id::random());
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tell(&state, &own) => {}
        () = hear(&state, &own) => {}
    }
}

async fn tell(state: &State, own: &str) {
    let mut changes = state.own_changes.subscribe();
    // The sender lives as long as the service.
    while changes.changed().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(GATHER_MS)).await;
        changes.mark_unchanged();
        if state.bus.is_connected()
            && let Err(error) = state.bus.client().publish(wake_subject(SERVICE), own.to_owned().into()).await
        {
            tracing::debug!(%error, "other replicas were not told of a change; they find it by themselves");
        }
    }
}

async fn hear(state: &State, own: &str) {
    loop {
        match state.bus.wakes(SERVICE).await {
            Ok(mut hints) => {
                while let Some(hint) = hints.next().await {
                    if !hint.payload.is_empty() && hint.payload != own {
                        count(&state.changes);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "hints of other replicas are not heard; retrying"),
        }
        tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
    }
}
