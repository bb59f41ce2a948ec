//! Keys whose signatures count, and the signatures of versions.

use sqlx::PgConnection;

use crate::error::Error;

/// A key or roots, under a name.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct SigningKey {
    pub(crate) name: String,
    pub(crate) pem: String,
    pub(crate) description: Option<String>,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
}

/// A signature as it came.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Signature {
    /// Where it lies among the version's files; empty for one that was attached.
    pub(crate) path: String,
    pub(crate) line: i32,
    pub(crate) bundle: String,
    pub(crate) fault: Option<String>,
    pub(crate) created_ms: i64,
}

/// Keys by name, after the given one.
pub(crate) async fn keys(
    db: &mut PgConnection,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<SigningKey>, Error> {
    Ok(sqlx::query_as(
        "SELECT name, pem, description, created_ms, updated_ms FROM signing_keys \
         WHERE $1::TEXT IS NULL OR name > $1 ORDER BY name LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// The key of that name.
pub(crate) async fn key_get(db: &mut PgConnection, name: &str) -> Result<Option<SigningKey>, Error> {
    Ok(sqlx::query_as(
        "SELECT name, pem, description, created_ms, updated_ms FROM signing_keys WHERE name = $1",
    )
    .bind(name)
    .fetch_optional(db)
    .await?)
}

/// How many keys have another name.
pub(crate) async fn keys_besides(db: &mut PgConnection, name: &str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM signing_keys WHERE name <> $1")
        .bind(name)
        .fetch_one(db)
        .await?)
}

/// Trusts a key, in place of the one that had the name.
pub(crate) async fn key_put(
    db: &mut PgConnection,
    (name, pem, description): (&str, &str, Option<&str>),
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO signing_keys (name, pem, description, created_ms, updated_ms) \
         VALUES ($1, $2, $3, $4, $4) \
         ON CONFLICT (name) DO UPDATE SET pem = excluded.pem, description = excluded.description, \
           updated_ms = excluded.updated_ms",
    )
    .bind(name)
    .bind(pem)
    .bind(description)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Trusts a key no more; `false` where there was none.
pub(crate) async fn key_delete(db: &mut PgConnection, name: &str) -> Result<bool, Error> {
    let removed = sqlx::query("DELETE FROM signing_keys WHERE name = $1").bind(name).execute(db).await?;
    Ok(removed.rows_affected() == 1)
}

/// The signatures of a version, the attached one first.
pub(crate) async fn signatures(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
) -> Result<Vec<Signature>, Error> {
    Ok(sqlx::query_as(
        "SELECT path, line, bundle, fault, created_ms FROM model_version_signatures \
         WHERE model_key = $1 AND version = $2 ORDER BY path, line",
    )
    .bind(model_key)
    .bind(version)
    .fetch_all(db)
    .await?)
}

/// Keeps a signature of a version, in place of one at the same place.
pub(crate) async fn signature_put(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
    signature: &Signature,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO model_version_signatures (model_key, version, path, line, bundle, fault, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (model_key, version, path, line) DO UPDATE \
         SET bundle = excluded.bundle, fault = excluded.fault, \
           created_ms = excluded.created_ms",
    )
    .bind(model_key)
    .bind(version)
    .bind(&signature.path)
    .bind(signature.line)
    .bind(&signature.bundle)
    .bind(&signature.fault)
    .bind(signature.created_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes the signature that was attached to a version; `false` where there was none.
pub(crate) async fn signature_detach(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
) -> Result<bool, Error> {
    let removed = sqlx::query(
        "DELETE FROM model_version_signatures WHERE model_key = $1 AND version = $2 AND path = ''",
    )
    .bind(model_key)
    .bind(version)
    .execute(db)
    .await?;
    Ok(removed.rows_affected() == 1)
}
