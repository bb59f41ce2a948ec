//! Objects that nothing refers to: uploads under way, and what was replaced or deleted.

use slipway_runtime::id;
use sqlx::PgConnection;

use crate::error::Error;

/// Prefix of the keys of artifacts in the bucket.
pub(crate) const PREFIX: &str = "blobs/";

/// A key that no object had before.
pub(crate) fn new_key() -> String {
    format!("{PREFIX}{}", id::time_ordered().simple())
}

/// Notes an upload before its first byte, so that a crash leaves a trace for the sweeper.
pub(crate) async fn blob_begin(db: &mut PgConnection, blob_key: &str, now_ms: i64) -> Result<(), Error> {
    sqlx::query("INSERT INTO loose_blobs (blob_key, since_ms) VALUES ($1, $2)")
        .bind(blob_key)
        .bind(now_ms)
        .execute(db)
        .await?;
    Ok(())
}

/// The upload is referred to from now on; `false` where the sweeper was quicker.
pub(crate) async fn blob_adopt(db: &mut PgConnection, blob_key: &str) -> Result<bool, Error> {
    let adopted =
        sqlx::query("DELETE FROM loose_blobs WHERE blob_key = $1").bind(blob_key).execute(db).await?;
    Ok(adopted.rows_affected() == 1)
}

/// Nothing may refer to these any more; the sweeper looks again before it removes them.
pub(crate) async fn blobs_release(
    db: &mut PgConnection,
    blob_keys: &[String],
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO loose_blobs (blob_key, since_ms) SELECT DISTINCT k, $2 FROM UNNEST($1::TEXT[]) AS g (k) \
         ON CONFLICT DO NOTHING",
    )
    .bind(blob_keys)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Which of these keys no row knows: neither an artifact, nor a file of a version, nor an upload, nor what
/// waits to be swept.
///
/// A key is noted before the first byte is written under it and never used twice. So an object that was seen
/// in the bucket and that no row knows afterwards stays unknown.
pub(crate) async fn blobs_unknown(db: &mut PgConnection, blob_keys: &[String]) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT k FROM UNNEST($1::TEXT[]) AS given (k) \
         WHERE NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.blob_key = k) \
           AND NOT EXISTS (SELECT 1 FROM model_version_files f WHERE f.blob_key = k) \
           AND NOT EXISTS (SELECT 1 FROM loose_blobs l WHERE l.blob_key = k)",
    )
    .bind(blob_keys)
    .fetch_all(db)
    .await?)
}

/// How many objects wait to be swept that became loose before `before_ms` and that nothing refers to.
pub(crate) async fn blobs_loose(
    db: &mut PgConnection,
    before_ms: i64,
    limit: i64,
) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT blob_key FROM loose_blobs l WHERE since_ms < $1 \
           AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.blob_key = l.blob_key) \
           AND NOT EXISTS (SELECT 1 FROM model_version_files f WHERE f.blob_key = l.blob_key) \
           ORDER BY since_ms LIMIT $2",
    )
    .bind(before_ms)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Takes loose objects out of the list that are older than `before_ms`: those to remove. What is referred to
/// after all is taken out too and kept.
pub(crate) async fn blobs_take_loose(
    db: &mut PgConnection,
    before_ms: i64,
    limit: i64,
) -> Result<Vec<String>, Error> {
    let taken: Vec<(String, bool)> = sqlx::query_as(
        "WITH taken AS (DELETE FROM loose_blobs WHERE blob_key IN (SELECT blob_key FROM loose_blobs \
         WHERE since_ms < $1 \
           ORDER BY since_ms LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING blob_key) \
         SELECT blob_key, EXISTS (SELECT 1 FROM artifacts a WHERE a.blob_key = taken.blob_key) \
           OR EXISTS (SELECT 1 FROM model_version_files f WHERE f.blob_key = taken.blob_key) FROM taken",
    )
    .bind(before_ms)
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(taken.into_iter().filter(|(_, referred)| !referred).map(|(key, _)| key).collect())
}
