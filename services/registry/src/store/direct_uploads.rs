//! Uploads in parts that clients send to the artifact store themselves.

use sqlx::PgConnection;

use crate::error::Error;

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct DirectUpload {
    pub(crate) upload_id: String,
    pub(crate) path: String,
    pub(crate) blob_key: String,
    pub(crate) store_id: String,
    pub(crate) completed_ms: Option<i64>,
}

pub(crate) async fn upload_begin(
    db: &mut PgConnection,
    upload: &DirectUpload,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO direct_uploads (upload_id, path, blob_key, store_id, begun_ms) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&upload.upload_id)
    .bind(&upload.path)
    .bind(&upload.blob_key)
    .bind(&upload.store_id)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// The upload of that id to that path.
pub(crate) async fn upload_get(
    db: &mut PgConnection,
    upload_id: &str,
    path: &str,
) -> Result<DirectUpload, Error> {
    sqlx::query_as(
        "SELECT upload_id, path, blob_key, store_id, completed_ms FROM direct_uploads WHERE upload_id = $1 \
         AND path = $2",
    )
    .bind(upload_id)
    .bind(path)
    .fetch_optional(db)
    .await?
    .ok_or_else(|| Error::not_found(format!("There is no upload '{upload_id}' to '{path}'")))
}

/// The upload is an artifact now.
pub(crate) async fn upload_complete(
    db: &mut PgConnection,
    upload_id: &str,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query("UPDATE direct_uploads SET completed_ms = $2 WHERE upload_id = $1")
        .bind(upload_id)
        .bind(now_ms)
        .execute(db)
        .await?;
    Ok(())
}

/// Forgets an upload that was not completed; `false` where there is none.
pub(crate) async fn upload_forget(db: &mut PgConnection, upload_id: &str) -> Result<bool, Error> {
    let forgotten = sqlx::query("DELETE FROM direct_uploads WHERE upload_id = $1 AND completed_ms IS NULL")
        .bind(upload_id)
        .execute(db)
        .await?;
    Ok(forgotten.rows_affected() == 1)
}

/// Deletes uploads that were started before `before_ms`, completed or not.
pub(crate) async fn uploads_forget_before(db: &mut PgConnection, before_ms: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM direct_uploads WHERE begun_ms < $1").bind(before_ms).execute(db).await?;
    Ok(())
}
