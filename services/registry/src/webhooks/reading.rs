//! Use cases that read webhooks and their deliveries.

use super::changing::MAX_WEBHOOKS;
use crate::error::Error;
use crate::state::Registry;
use crate::store::deliveries::{self, Delivery};
use crate::store::webhooks::{self as table, Webhook};

/// The webhook of that name.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, name: &str) -> Result<Webhook, Error> {
    table::webhook_get(&mut *registry.pool.acquire().await?, name).await
}

/// The webhook of that id, if there is one.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn find(registry: &Registry, id: &str) -> Result<Option<Webhook>, Error> {
    table::webhook_find(&mut *registry.pool.acquire().await?, id).await
}

/// A page of webhooks, by name, behind the given one.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Webhook>, Error> {
    table::webhook_list(&mut *registry.pool.acquire().await?, after, limit).await
}

/// All webhooks, the newest first.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn newest(registry: &Registry) -> Result<Vec<Webhook>, Error> {
    table::webhooks_newest(&mut *registry.pool.acquire().await?, MAX_WEBHOOKS).await
}

/// A page of the deliveries of a webhook, the newest first, below the given one; in one state if given.
///
/// # Errors
/// The webhook does not exist, or Postgres is unreachable.
pub(crate) async fn list_deliveries(
    registry: &Registry,
    name: &str,
    state: Option<&str>,
    below: Option<i64>,
    limit: i64,
) -> Result<Vec<Delivery>, Error> {
    let mut db = registry.pool.acquire().await?;
    let key = table::webhook_get(&mut db, name).await?.webhook_key;
    deliveries::delivery_list(&mut db, key, state, below, limit).await
}
