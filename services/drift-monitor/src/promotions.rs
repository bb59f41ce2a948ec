//! News of rollouts: the stable version, and with it the baseline, may be another.

use chrono::{DateTime, Utc};
use slipway_api::events::{EVENTS_STREAM, RolloutChange};
use slipway_event_bus::{Consumer, Received, inbox};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::store;

/// The place in the events stream, and the name in the inbox.
const CONSUMER: &str = "drift-monitor-rollouts";
const SUBJECTS: [&str; 2] =
    ["slipway.rollout-controller.rollout.promoted", "slipway.rollout-controller.rollout.rolled-back"];

/// Hears of promotions and rollbacks until `shutdown`.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let subjects = SUBJECTS.map(str::to_owned).to_vec();
    let consumer = Consumer::new(app.bus.clone(), EVENTS_STREAM, CONSUMER, subjects);
    consumer
        .run(shutdown, |received| {
            let app = app.clone();
            async move { handle(&app, &received).await.map_err(|error| error.to_string()) }
        })
        .await;
}

async fn handle(app: &App, received: &Received) -> anyhow::Result<()> {
    let change: RolloutChange = match received.parse() {
        Ok(change) => change,
        Err(error) => {
            // It will not parse the next time either.
            tracing::warn!(%error, event = %received.id, "an event is skipped");
            return Ok(());
        }
    };
    let since =
        DateTime::parse_from_rfc3339(&received.time).map_or_else(|_| Utc::now(), |time| time.to_utc());
    let mut transaction = app.pool.begin().await?;
    if inbox::first_time(&mut transaction, CONSUMER, &received.id).await? {
        store::baselines::doubt(&mut transaction, &change.deployment, since).await?;
    }
    transaction.commit().await?;
    app.monitors_changed();
    Ok(())
}
