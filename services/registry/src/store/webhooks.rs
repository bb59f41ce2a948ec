//! Webhooks.

use secrecy::{ExposeSecret, SecretString};
use slipway_domain::registry::webhook::Format;
use slipway_service_kit::db::is_duplicate;
use sqlx::PgConnection;

use crate::error::{Error, Thing};

/// Key of the advisory lock under which webhooks change one at a time, so that the event filter is made of
/// all of them.
const CHANGE_LOCK_KEY: i64 = 0x57EB_4004;

/// A webhook without its secrets.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Webhook {
    pub(crate) webhook_key: i64,
    pub(crate) webhook_id: String,
    pub(crate) name: String,
    #[sqlx(try_from = "String")]
    pub(crate) format: Format,
    pub(crate) url: String,
    pub(crate) description: String,
    /// Patterns of subjects that it is about.
    pub(crate) events: Vec<String>,
    /// In the format besides CloudEvents: names of the events that it wants, as `entity.action`.
    pub(crate) mlflow_events: Vec<String>,
    pub(crate) enabled: bool,
    pub(crate) disabled_reason: Option<String>,
    pub(crate) active_from_ms: i64,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
}

/// The signing secret. Not `Debug`, so that it is never printed.
#[derive(sqlx::FromRow)]
pub(crate) struct Secrets {
    /// Absent where nothing is signed.
    pub(crate) secret: Option<String>,
    pub(crate) old_secret: Option<String>,
    pub(crate) old_secret_until_ms: i64,
}

/// What a change asks for; what is absent stays.
#[derive(Debug, Default)]
pub(crate) struct Update<'update> {
    pub(crate) name: Option<&'update str>,
    pub(crate) url: Option<&'update str>,
    pub(crate) description: Option<&'update str>,
    pub(crate) events: Option<&'update [String]>,
    pub(crate) mlflow_events: Option<&'update [String]>,
    /// Signs from now on, without the one before; an empty one ends that.
    pub(crate) secret: Option<&'update SecretString>,
    pub(crate) enabled: Option<bool>,
}

/// The refusal for a webhook that is not there.
pub(crate) fn absent(name: &str) -> Error {
    Error::not_found(format!("There is no webhook '{name}'"))
}

fn taken(name: &str) -> Error {
    Error::Exists(Thing::Other(format!("There is a webhook '{name}' already")))
}

/// Holds all other changes of webhooks until the transaction ends.
pub(crate) async fn webhooks_lock(db: &mut PgConnection) -> Result<(), Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(CHANGE_LOCK_KEY).execute(db).await?;
    Ok(())
}

/// Makes a webhook.
pub(crate) async fn webhook_create(
    db: &mut PgConnection,
    webhook: &Webhook,
    secret: Option<&SecretString>,
) -> Result<(), Error> {
    let made = sqlx::query(
        "INSERT INTO webhooks (name, url, description, events, secret, enabled, active_from_ms, created_ms, \
         updated_ms, \
           webhook_id, format, mlflow_events) \
         VALUES ($1, $2, $3, $4, $5, $6, floor(extract(epoch \
         FROM clock_timestamp()) * 1000), $7, $7, $8, $9, $10)",
    )
    .bind(&webhook.name)
    .bind(&webhook.url)
    .bind(&webhook.description)
    .bind(&webhook.events)
    .bind(secret.map(ExposeSecret::expose_secret))
    .bind(webhook.enabled)
    .bind(webhook.created_ms)
    .bind(&webhook.webhook_id)
    .bind(webhook.format.name())
    .bind(&webhook.mlflow_events)
    .execute(db)
    .await;
    match made {
        Err(error) if is_duplicate(&error) => Err(taken(&webhook.name)),
        other => Ok(other.map(drop)?),
    }
}

const SELECT: &str = "SELECT webhook_key, webhook_id, name, format, url, description, events, mlflow_events, \
    enabled, \
    disabled_reason, active_from_ms, created_ms, updated_ms FROM webhooks";

/// The webhook of that name.
pub(crate) async fn webhook_get(db: &mut PgConnection, name: &str) -> Result<Webhook, Error> {
    let query = format!("{SELECT} WHERE name = $1");
    let found = sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(name).fetch_optional(db).await?;
    found.ok_or_else(|| absent(name))
}

/// The webhook of that id, where there is one.
pub(crate) async fn webhook_find(db: &mut PgConnection, id: &str) -> Result<Option<Webhook>, Error> {
    let query = format!("{SELECT} WHERE webhook_id = $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// The newest webhooks.
pub(crate) async fn webhooks_newest(db: &mut PgConnection, limit: i64) -> Result<Vec<Webhook>, Error> {
    let query = format!("{SELECT} ORDER BY webhook_key DESC LIMIT $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(limit).fetch_all(db).await?)
}

/// Webhooks by name, behind `after`.
pub(crate) async fn webhook_list(
    db: &mut PgConnection,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Webhook>, Error> {
    let query = format!("{SELECT} WHERE name > $1 ORDER BY name LIMIT $2");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// All that are switched on.
pub(crate) async fn webhooks_enabled(db: &mut PgConnection) -> Result<Vec<Webhook>, Error> {
    let query = format!("{SELECT} WHERE enabled");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(db).await?)
}

/// How many there are.
pub(crate) async fn webhook_count(db: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM webhooks").fetch_one(db).await?)
}

/// Changes a webhook. Switched on, it begins with what happens from now on.
pub(crate) async fn webhook_update(
    db: &mut PgConnection,
    name: &str,
    update: &Update<'_>,
    now_ms: i64,
) -> Result<(), Error> {
    let changed = sqlx::query(
        "UPDATE webhooks SET url = coalesce($2, url), description = coalesce($3, description), \
         events = coalesce($4, events), \
           active_from_ms = CASE WHEN $5 AND NOT enabled THEN floor(extract(epoch \
           FROM clock_timestamp()) * 1000) \
             ELSE active_from_ms END, \
           disabled_reason = CASE WHEN $5 THEN NULL ELSE disabled_reason END, enabled = coalesce($5, \
           enabled), updated_ms = $6, \
           name = coalesce($7, name), mlflow_events = coalesce($8, mlflow_events), \
           secret = CASE WHEN $9::TEXT IS NULL THEN secret ELSE nullif($9, '') END, \
           old_secret = CASE WHEN $9 IS NULL THEN old_secret END \
         WHERE name = $1",
    )
    .bind(name)
    .bind(update.url)
    .bind(update.description)
    .bind(update.events)
    .bind(update.enabled)
    .bind(now_ms)
    .bind(update.name)
    .bind(update.mlflow_events)
    .bind(update.secret.map(ExposeSecret::expose_secret))
    .execute(db)
    .await;
    match changed {
        Ok(changed) if changed.rows_affected() == 1 => Ok(()),
        Ok(_) => Err(absent(name)),
        Err(error) if is_duplicate(&error) => Err(taken(update.name.unwrap_or(name))),
        Err(error) => Err(error.into()),
    }
}

/// Switches a webhook off because of what its receiver said.
pub(crate) async fn webhook_disable(
    db: &mut PgConnection,
    webhook_key: i64,
    reason: &str,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE webhooks SET enabled = FALSE, disabled_reason = $2, updated_ms = $3 WHERE webhook_key = $1",
    )
    .bind(webhook_key)
    .bind(reason)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Signs with a new secret; the one before signs too until `old_until_ms`.
pub(crate) async fn webhook_rotate(
    db: &mut PgConnection,
    name: &str,
    secret: &str,
    old_until_ms: i64,
    now_ms: i64,
) -> Result<(), Error> {
    let changed = sqlx::query(
        "UPDATE webhooks SET old_secret = secret, old_secret_until_ms = $3, secret = $2, updated_ms = $4 \
         WHERE name = $1",
    )
    .bind(name)
    .bind(secret)
    .bind(old_until_ms)
    .bind(now_ms)
    .execute(db)
    .await?;
    if changed.rows_affected() == 1 { Ok(()) } else { Err(absent(name)) }
}

/// Removes a webhook with its deliveries.
pub(crate) async fn webhook_delete(db: &mut PgConnection, name: &str) -> Result<(), Error> {
    let removed = sqlx::query("DELETE FROM webhooks WHERE name = $1").bind(name).execute(db).await?;
    if removed.rows_affected() == 1 { Ok(()) } else { Err(absent(name)) }
}

/// What signs the calls of a webhook.
pub(crate) async fn webhook_secrets(
    db: &mut PgConnection,
    webhook_key: i64,
) -> Result<Option<Secrets>, Error> {
    Ok(sqlx::query_as("SELECT secret, old_secret, old_secret_until_ms FROM webhooks WHERE webhook_key = $1")
        .bind(webhook_key)
        .fetch_optional(db)
        .await?)
}
