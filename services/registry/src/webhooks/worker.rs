//! Sends pending deliveries, in the replica that leads. A worker claims rows for a limited time, and the
//! worker of the next leader takes up what the one before has claimed.

use std::time::Duration;

use slipway_domain::registry::webhook::Next;
use slipway_lease::carry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::send::Call;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::deliveries::{self, Attempt, Claimed};
use crate::store::webhooks;

/// Calls that are under way at a time.
const MAX_CALLS: usize = 64;
/// Concurrent calls of one webhook: a slow receiver delays only its own deliveries.
const MAX_CALLS_PER_WEBHOOK: i64 = 4;
/// Longest pause between two looks. They are made when the next attempt is due, and when something is added.
const MAX_PAUSE_MS: u64 = 5_000;
const MIN_PAUSE_MS: u64 = 50;
/// A claim outlives its call by so much; then the call is lost.
const CLAIM_MARGIN_MS: i64 = 5_000;
/// What is over stays so long. Longer than the stream keeps events, so that none is delivered again.
const KEEP_MS: i64 = 30 * 24 * 3_600_000;
const FORGET_INTERVAL_MS: i64 = 60_000;
const FORGET_BATCH: i64 = 5_000;

/// Runs until `shutdown`.
pub(crate) async fn run(registry: Registry, shutdown: CancellationToken) {
    let mut calls = JoinSet::new();
    let mut elsewhere = registry.changes.elsewhere();
    let mut forget_at_ms = now_ms();
    if let Err(error) = take_over(&registry).await {
        tracing::debug!(%error, "deliveries of the leader before are taken up when their time is over");
    }
    while !shutdown.is_cancelled() {
        let room = MAX_CALLS - calls.len();
        let mut pause_ms = MAX_PAUSE_MS;
        match claim(&registry, room).await {
            Ok(Claim { claim, claimed, next_ms }) => {
                pause_ms = next_ms;
                for delivery in claimed {
                    let registry = registry.clone();
                    calls.spawn(carry(async move { deliver(&registry, claim, &delivery).await }));
                }
            }
            Err(error) => tracing::debug!(%error, "webhook delivery pass failed; retrying"),
        }
        if now_ms() >= forget_at_ms {
            forget_at_ms = now_ms() + FORGET_INTERVAL_MS;
            forget(&registry).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = registry.webhooks.wake.notified(), if calls.len() < MAX_CALLS => {}
            Some(_) = calls.join_next() => while calls.try_join_next().is_some() {},
            _ = elsewhere.changed(), if calls.len() < MAX_CALLS => {}
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
    // The lease allows for a moment. Another replica repeats the calls that take longer.
    while calls.join_next().await.is_some() {}
}

/// What one look took.
struct Claim {
    claim: i64,
    claimed: Vec<Claimed>,
    /// Time until the next attempt is due, milliseconds.
    next_ms: u64,
}

/// Whoever leads now makes the calls: the calls of the leader before end with it, or are not noted.
async fn take_over(registry: &Registry) -> Result<(), Error> {
    let mut db = slipway_lease::begin(&registry.pool).await?;
    deliveries::deliveries_unclaim(&mut db).await?;
    Ok(db.commit().await?)
}

async fn claim(registry: &Registry, room: usize) -> Result<Claim, Error> {
    let claim: i64 = rand::random();
    if room == 0 {
        return Ok(Claim { claim, claimed: Vec::new(), next_ms: MAX_PAUSE_MS });
    }
    let room = i64::try_from(room).unwrap_or(i64::MAX);
    let until_ms = now_ms()
        + i64::try_from(registry.webhooks.sender.timeout_ms).unwrap_or(i64::MAX / 2)
        + CLAIM_MARGIN_MS;
    let mut db = slipway_lease::begin(&registry.pool).await?;
    let claimed =
        deliveries::deliveries_claim(&mut db, claim, room, MAX_CALLS_PER_WEBHOOK, now_ms(), until_ms).await?;
    let due_ms = deliveries::deliveries_next(&mut db).await?.unwrap_or(i64::MAX);
    db.commit().await?;
    let next_ms = u64::try_from(due_ms.saturating_sub(now_ms())).unwrap_or(0);
    Ok(Claim { claim, claimed, next_ms: next_ms.clamp(MIN_PAUSE_MS, MAX_PAUSE_MS) })
}

async fn forget(registry: &Registry) {
    let forgotten = async {
        let mut db = slipway_lease::begin(&registry.pool).await?;
        deliveries::deliveries_forget(&mut db, now_ms() - KEEP_MS, FORGET_BATCH).await?;
        Ok::<_, Error>(db.commit().await?)
    };
    if let Err(error) = forgotten.await {
        tracing::debug!(%error, "old deliveries not removed; retrying");
    }
}

async fn deliver(registry: &Registry, claim: i64, delivery: &Claimed) {
    // Where this fails the claim runs out, and the delivery is made again.
    if let Err(error) = attempt(registry, claim, delivery).await {
        tracing::warn!(%error, webhook = %delivery.webhook, event = %delivery.event_id,
            "result of a webhook delivery not stored");
    }
}

async fn attempt(registry: &Registry, claim: i64, delivery: &Claimed) -> Result<(), Error> {
    let secrets =
        webhooks::webhook_secrets(&mut *registry.pool.acquire().await?, delivery.webhook_key).await?;
    let Some(secrets) = secrets else { return Ok(()) };
    let sender = &registry.webhooks.sender;
    let call = Call {
        format: delivery.format,
        url: &delivery.url,
        secrets: &secrets,
        id: &delivery.event_id,
        body: &delivery.body,
        answer_bytes: 0,
    };
    let called = sender.call(&call, now_ms()).await;
    let number = u32::try_from(delivery.attempts).unwrap_or_default().saturating_add(1);
    let next = registry.webhooks.retries.after(number, called.outcome, rand::random());
    let (state, pause_ms) = match next {
        Next::Delivered => ("delivered", 0),
        Next::Retry(pause_ms) => ("pending", pause_ms),
        Next::Dead | Next::Gone => ("dead", 0),
    };
    let now = now_ms();
    let noted = Attempt {
        state,
        next_attempt_ms: now.saturating_add(i64::try_from(pause_ms).unwrap_or(i64::MAX)),
        status: called.status(),
        error: called.error.as_deref(),
    };
    let mut change = registry.change().await?;
    let ours = deliveries::delivery_finish(change.db(), delivery.delivery_id, claim, &noted, now).await?;
    if ours && next == Next::Gone {
        let reason = "the receiver answered 410 Gone";
        webhooks::webhook_disable(change.db(), delivery.webhook_key, reason, now).await?;
        let details = serde_json::json!({ "reason": reason });
        change.tell("webhook", "disabled", delivery.webhook.as_str(), details).await?;
    }
    change.commit().await?;
    if ours && matches!(next, Next::Dead | Next::Gone) {
        tracing::warn!(webhook = %delivery.webhook, event = %delivery.event_id, attempts = number,
            error = called.error.as_deref().unwrap_or_default(), "webhook delivery given up");
    }
    Ok(())
}
