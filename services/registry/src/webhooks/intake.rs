//! From the event stream to rows: each event that a webhook wants becomes one delivery.
//!
//! A durable consumer, read by the replica that leads, keeps the place in the stream. Its filter lets through
//! what some webhook wants, so that events that no webhook wants cost nothing here; it is widened before a
//! webhook is committed, so that none is missed.

use std::time::Duration;

use chrono::DateTime;
use slipway_api::events::{EVENTS_STREAM, EVENTS_SUBJECTS};
use slipway_domain::registry::webhook::{Format, filters};
use slipway_event_bus::permissions::durable;
use slipway_event_bus::{Consumer, Received};
use slipway_service_kit::db::while_open;
use tokio_util::sync::CancellationToken;

use super::payload::Telling;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::{deliveries, webhooks};

const DURABLE: &str = durable::REGISTRY_WEBHOOKS;
/// The consumer's filter while there is no webhook: no such event is ever published.
const NOTHING: &str = "slipway.registry.webhook.nothing";
/// The filter is compared so often: another replica's change may have failed half-way, or NATS lost its
/// files.
const ALIGN_INTERVAL_MS: u64 = 30_000;
const ALIGN_RETRY_MS: u64 = 1_000;

/// Runs until `shutdown`.
pub(crate) async fn run(registry: Registry, shutdown: CancellationToken) {
    let bus = registry.webhooks.bus.clone();
    let consumer = Consumer::new(bus, EVENTS_STREAM, DURABLE, vec![NOTHING.to_owned()]);
    let taking = registry.clone();
    let taken = consumer.run(shutdown.clone(), move |event| {
        let registry = taking.clone();
        async move { take(&registry, &event).await.map_err(|error| error.to_string()) }
    });
    tokio::join!(taken, keep_aligned(&registry, &shutdown));
}

async fn keep_aligned(registry: &Registry, shutdown: &CancellationToken) {
    loop {
        let pause_ms = match align_all(registry).await {
            Ok(()) => ALIGN_INTERVAL_MS,
            Err(error) => {
                tracing::debug!(%error, "webhook subscription filter not updated; retrying");
                ALIGN_RETRY_MS
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

async fn align_all(registry: &Registry) -> Result<(), Error> {
    let mut transaction = slipway_service_kit::db::begin(&registry.pool).await?;
    webhooks::webhooks_lock(&mut transaction).await?;
    let enabled = webhooks::webhooks_enabled(&mut transaction).await?;
    let patterns: Vec<&str> =
        enabled.iter().flat_map(|webhook| webhook.events.iter().map(String::as_str)).collect();
    while_open(&mut transaction, align(registry, patterns)).await?
}

/// Makes the consumer listen to at least what the patterns want. The caller holds the lock on webhooks.
///
/// # Errors
/// NATS is unreachable.
pub(crate) async fn align<'pattern>(
    registry: &Registry,
    patterns: impl IntoIterator<Item = &'pattern str>,
) -> Result<(), Error> {
    let mut wanted = filters(patterns, &EVENTS_SUBJECTS);
    if wanted.is_empty() {
        wanted.push(NOTHING.to_owned());
    }
    registry.webhooks.bus.ensure_filter(EVENTS_STREAM, DURABLE, wanted).await.map_err(|error| {
        tracing::warn!(%error, "webhooks cannot be changed while NATS is unreachable");
        Error::unavailable("NATS")
    })
}

/// Rows for those who want the event; an event that comes again adds none.
async fn take(registry: &Registry, event: &Received) -> Result<(), Error> {
    let mut db = slipway_lease::begin(&registry.pool).await?;
    let happened_ms =
        DateTime::parse_from_rfc3339(&event.time).map_or_else(|_| now_ms(), |time| time.timestamp_millis());
    let enabled = webhooks::webhooks_enabled(&mut db).await?;
    let telling = Telling::new(event, &registry.webhooks.dialect);
    let mut added = 0;
    for format in [Format::CloudEvents, Format::Mlflow] {
        let wants: Vec<_> = enabled
            .iter()
            .filter(|webhook| webhook.format == format && happened_ms >= webhook.active_from_ms)
            .filter_map(|webhook| Some((webhook.webhook_key, telling.to(webhook)?)))
            .collect();
        let Some((_, told)) = wants.first() else { continue };
        let keys: Vec<i64> = wants.iter().map(|(key, _)| *key).collect();
        added += deliveries::deliveries_add(&mut db, &keys, told, now_ms()).await?;
    }
    db.commit().await?;
    if added > 0 {
        registry.webhooks.wake.notify_one();
    }
    Ok(())
}
