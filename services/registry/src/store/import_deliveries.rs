//! Deliveries of the bytes of imports that the registry cannot read itself.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Error;

/// A delivery to be made.
#[derive(Debug)]
pub(crate) struct NewDelivery<'new> {
    pub(crate) import_key: i64,
    pub(crate) token_sha256: &'new [u8],
    pub(crate) root: &'new str,
    pub(crate) expires_ms: i64,
}

/// A delivery.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Delivery {
    pub(crate) delivery_key: i64,
    pub(crate) root: String,
    pub(crate) completed: bool,
}

/// How much is in a directory.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct Stored {
    pub(crate) files: i64,
    pub(crate) size_bytes: i64,
}

/// Makes a delivery. Earlier ones of the import that are not complete expire.
pub(crate) async fn delivery_put(
    db: &mut PgConnection,
    new: &NewDelivery<'_>,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query("UPDATE import_deliveries SET expires_ms = $2 WHERE import_key = $1 AND expires_ms > $2")
        .bind(new.import_key)
        .bind(now_ms)
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO import_deliveries (import_key, token_sha256, root, created_ms, expires_ms) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(new.import_key)
    .bind(new.token_sha256)
    .bind(new.root)
    .bind(now_ms)
    .bind(new.expires_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// The delivery of an import that has this token and has not expired.
pub(crate) async fn delivery_of_token(
    db: &mut PgConnection,
    import_id: Uuid,
    token_sha256: &[u8],
    now_ms: i64,
) -> Result<Option<Delivery>, Error> {
    Ok(sqlx::query_as(
        "SELECT d.delivery_key, d.root, d.completed FROM import_deliveries d \
         JOIN imports i USING (import_key) WHERE i.id = $1 AND d.token_sha256 = $2 AND d.expires_ms > $3",
    )
    .bind(import_id)
    .bind(token_sha256)
    .bind(now_ms)
    .fetch_optional(db)
    .await?)
}

/// The files of a directory and their size, except for the file that is at `path` within it.
pub(crate) async fn stored_except(db: &mut PgConnection, root: &str, path: &str) -> Result<Stored, Error> {
    Ok(sqlx::query_as(
        "SELECT count(*) AS files, COALESCE(sum(size_bytes), 0)::BIGINT AS size_bytes FROM artifacts \
         WHERE path >= $1 || '/' AND path < $1 || '0' AND path <> $1 || '/' || $2",
    )
    .bind(root)
    .bind(path)
    .fetch_one(db)
    .await?)
}

/// Notes that all files of a delivery are there.
pub(crate) async fn delivery_complete(db: &mut PgConnection, delivery_key: i64) -> Result<(), Error> {
    sqlx::query("UPDATE import_deliveries SET completed = true WHERE delivery_key = $1")
        .bind(delivery_key)
        .execute(db)
        .await?;
    Ok(())
}

/// Directory of the newest complete delivery of an import.
pub(crate) async fn delivered_root(db: &mut PgConnection, import_key: i64) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT root FROM import_deliveries WHERE import_key = $1 AND completed \
         ORDER BY delivery_key DESC LIMIT 1",
    )
    .bind(import_key)
    .fetch_optional(db)
    .await?)
}

/// Deliveries that no client may go on with and no import waits for.
pub(crate) async fn deliveries_ended(
    db: &mut PgConnection,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<Delivery>, Error> {
    Ok(sqlx::query_as(
        "SELECT d.delivery_key, d.root, d.completed FROM import_deliveries d \
         LEFT JOIN imports i USING (import_key) WHERE i.import_key IS NULL \
         OR (d.expires_ms <= $1 AND (NOT d.completed OR i.version IS NOT NULL)) \
         ORDER BY d.delivery_key LIMIT $2",
    )
    .bind(now_ms)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Forgets a delivery.
pub(crate) async fn delivery_delete(db: &mut PgConnection, delivery_key: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM import_deliveries WHERE delivery_key = $1")
        .bind(delivery_key)
        .execute(db)
        .await?;
    Ok(())
}
