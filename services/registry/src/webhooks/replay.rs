//! Telling a webhook again what happened since a moment, from the event stream.

use std::time::SystemTime;

use slipway_api::events::{EVENTS_STREAM, EVENTS_SUBJECTS};
use slipway_domain::registry::webhook::filters;

use super::payload::Telling;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::deliveries;
use crate::store::webhooks::{Webhook, webhook_get};

/// Events that one request looks at; it says where the next one goes on.
pub(crate) const MAX_EVENTS: usize = 1_000;

/// What a replay did.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) queued: u64,
    /// Time of the last event looked at, where there are more behind it.
    pub(crate) go_on_from: Option<String>,
}

/// Queues what the webhook wants of the events since then.
///
/// # Errors
/// NATS or Postgres is unreachable.
pub(crate) async fn replay(
    registry: &Registry,
    webhook: &Webhook,
    since: SystemTime,
) -> Result<Replayed, Error> {
    let wanted = filters(webhook.events.iter().map(String::as_str), &EVENTS_SUBJECTS);
    // No filter would be all events.
    if wanted.is_empty() {
        return Ok(Replayed { queued: 0, go_on_from: None });
    }
    let bus = &registry.webhooks.bus;
    let (events, more) = bus.history(EVENTS_STREAM, wanted, since, MAX_EVENTS).await.map_err(|error| {
        tracing::warn!(%error, "events cannot be replayed while NATS is unreachable");
        Error::unavailable("NATS")
    })?;
    let go_on_from = events.last().filter(|_| more).map(|event| event.time.clone());
    let events: Vec<_> = events
        .iter()
        .filter_map(|event| Telling::new(event, &registry.webhooks.dialect).to(webhook).cloned())
        .collect();
    let mut db = registry.pool.acquire().await?;
    let queued = deliveries::deliveries_replay(&mut db, webhook.webhook_key, &events, now_ms()).await?;
    registry.deliveries_changed();
    Ok(Replayed { queued, go_on_from })
}

/// Queues one delivery of a webhook again, with its attempts counted from zero.
///
/// # Errors
/// The webhook or the delivery does not exist, or Postgres is unreachable.
pub(crate) async fn replay_one(registry: &Registry, name: &str, delivery_id: i64) -> Result<(), Error> {
    let mut db = registry.pool.acquire().await?;
    let key = webhook_get(&mut db, name).await?.webhook_key;
    if !deliveries::delivery_replay(&mut db, key, delivery_id, now_ms()).await? {
        return Err(Error::not_found(format!("there is no delivery `{delivery_id}` of `{name}`")));
    }
    registry.deliveries_changed();
    Ok(())
}
