//! Making, changing and removing webhooks, for both APIs.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use slipway_domain::registry::webhook::Format;
use slipway_service_kit::db::while_open;

use super::intake;
use crate::change::Change;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::webhooks::{self as table, Update, Webhook};

/// Webhooks at most.
pub(super) const MAX_WEBHOOKS: i64 = 200;

/// Begins a change of webhooks; others wait.
async fn begin(registry: &Registry) -> Result<Change, Error> {
    let mut change = registry.change().await?;
    table::webhooks_lock(change.db()).await?;
    Ok(change)
}

/// Has the intake listen to these patterns as well, before the change commits.
async fn listen(registry: &Registry, change: &mut Change, more: &[String]) -> Result<(), Error> {
    if more.is_empty() {
        return Ok(());
    }
    let enabled = table::webhooks_enabled(change.db()).await?;
    let patterns = enabled.iter().flat_map(|webhook| &webhook.events).chain(more);
    let patterns: Vec<&str> = patterns.map(String::as_str).collect();
    while_open(change.db(), intake::align(registry, patterns)).await?
}

/// Stores a webhook; what happens from now on is delivered to it.
///
/// # Errors
/// The name is taken, there are too many, or NATS or Postgres is unreachable.
pub(crate) async fn create(
    registry: &Registry,
    webhook: &Webhook,
    secret: Option<&SecretString>,
) -> Result<(), Error> {
    let mut change = begin(registry).await?;
    listen(registry, &mut change, if webhook.enabled { &webhook.events } else { &[] }).await?;
    if table::webhook_count(change.db()).await? >= MAX_WEBHOOKS {
        return Err(Error::Conflict(format!("there are {MAX_WEBHOOKS} webhooks already; remove one first")));
    }
    table::webhook_create(change.db(), webhook, secret).await?;
    // Without the URL: it may hold a token.
    change.tell("webhook", "created", webhook.name.as_str(), json!({"events": webhook.events})).await?;
    change.commit().await
}

/// Changes the webhook of that name.
///
/// # Errors
/// There is none of that name, the new name is taken, or NATS or Postgres is unreachable.
pub(crate) async fn update(registry: &Registry, name: &str, update: &Update<'_>) -> Result<Webhook, Error> {
    let mut change = begin(registry).await?;
    let there = table::webhook_get(change.db(), name).await?;
    let wanted = update.events.unwrap_or(&there.events);
    let listens = update.enabled.unwrap_or(there.enabled) && (update.events.is_some() || !there.enabled);
    listen(registry, &mut change, if listens { wanted } else { &[] }).await?;
    table::webhook_update(change.db(), name, update, now_ms()).await?;
    let name_now = update.name.unwrap_or(name);
    let webhook = table::webhook_get(change.db(), name_now).await?;
    let mut details = json!({"events": webhook.events, "enabled": webhook.enabled});
    if name_now != name {
        details["renamed_from"] = name.into();
    }
    if update.secret.is_some() {
        details["secret"] = "replaced".into();
    }
    change.tell("webhook", "updated", name_now, details).await?;
    change.commit().await?;
    registry.deliveries_changed();
    Ok(webhook)
}

/// Removes a webhook with its deliveries.
///
/// # Errors
/// There is none of that name, or Postgres is unreachable.
pub(crate) async fn remove(registry: &Registry, name: &str) -> Result<(), Error> {
    let mut change = begin(registry).await?;
    table::webhook_delete(change.db(), name).await?;
    change.tell("webhook", "deleted", name, json!({})).await?;
    change.commit().await
}

/// Replaces the secret of a webhook, and keeps the one before for so long; Unix milliseconds until both sign.
/// A format with one signature changes at once.
///
/// # Errors
/// There is none of that name, or Postgres is unreachable.
pub(crate) async fn rotate(
    registry: &Registry,
    name: &str,
    secret: &SecretString,
    overlap_s: u32,
) -> Result<i64, Error> {
    let mut change = begin(registry).await?;
    let both = table::webhook_get(change.db(), name).await?.format == Format::CloudEvents;
    let until_ms = now_ms() + if both { i64::from(overlap_s) * 1_000 } else { 0 };
    table::webhook_rotate(change.db(), name, secret.expose_secret(), until_ms, now_ms()).await?;
    change.tell("webhook", "updated", name, json!({"secret": "rotated"})).await?;
    change.commit().await?;
    Ok(until_ms)
}
