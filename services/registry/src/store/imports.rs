//! Addresses outside of the registry whose content becomes versions.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Error;

/// Columns of [`Import`] from imports `i` and registered_models `m`.
macro_rules! columns {
    () => {
        "i.import_key, i.id, m.name AS model, i.uri, i.alias, i.watch, i.delivered, i.fingerprint, \
         i.version, i.problem, i.done_bytes, i.total_bytes, i.created_ms, i.updated_ms"
    };
}

/// An import.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Import {
    pub(crate) import_key: i64,
    pub(crate) id: Uuid,
    pub(crate) model: String,
    pub(crate) uri: String,
    /// Empty: none.
    pub(crate) alias: String,
    pub(crate) watch: bool,
    /// Whether a client hands the bytes over.
    pub(crate) delivered: bool,
    /// Identifies the content that became the version.
    pub(crate) fingerprint: Option<String>,
    pub(crate) version: Option<i32>,
    pub(crate) problem: Option<String>,
    pub(crate) done_bytes: i64,
    pub(crate) total_bytes: i64,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
}

/// An import to be made.
#[derive(Debug)]
pub(crate) struct NewImport<'new> {
    pub(crate) id: Uuid,
    pub(crate) model_key: i64,
    pub(crate) uri: &'new str,
    pub(crate) alias: &'new str,
    pub(crate) watch: bool,
    pub(crate) delivered: bool,
}

/// Makes an import, or changes whether the one that is there watches. Another address whose versions got the
/// same alias is no longer read.
pub(crate) async fn import_put(
    db: &mut PgConnection,
    new: &NewImport<'_>,
    now_ms: i64,
) -> Result<Import, Error> {
    if !new.alias.is_empty() {
        sqlx::query("DELETE FROM imports WHERE model_key = $1 AND alias = $2 AND uri <> $3")
            .bind(new.model_key)
            .bind(new.alias)
            .bind(new.uri)
            .execute(&mut *db)
            .await?;
    }
    Ok(sqlx::query_as(concat!(
        "WITH i AS (INSERT INTO imports \
         (id, model_key, uri, alias, watch, delivered, created_ms, updated_ms) \
         VALUES ($1, $2, $3, $4, $5, $7, $6, $6) ON CONFLICT (model_key, uri, alias) DO UPDATE \
         SET watch = excluded.watch, delivered = excluded.delivered RETURNING *) SELECT ",
        columns!(),
        " FROM i JOIN registered_models m USING (model_key)"
    ))
    .bind(new.id)
    .bind(new.model_key)
    .bind(new.uri)
    .bind(new.alias)
    .bind(new.watch)
    .bind(now_ms)
    .bind(new.delivered)
    .fetch_one(db)
    .await?)
}

/// The imports of a model, the oldest first, behind the given one.
pub(crate) async fn import_list(
    db: &mut PgConnection,
    model: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<Import>, Error> {
    Ok(sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM imports i JOIN registered_models m USING (model_key) WHERE m.name = $1 AND i.import_key > $2 \
         ORDER BY i.import_key LIMIT $3"
    ))
    .bind(model)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// The import of that id, of this model.
pub(crate) async fn import_get(
    db: &mut PgConnection,
    model: &str,
    id: Uuid,
) -> Result<Option<Import>, Error> {
    Ok(sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM imports i JOIN registered_models m USING (model_key) WHERE m.name = $1 AND i.id = $2"
    ))
    .bind(model)
    .bind(id)
    .fetch_optional(db)
    .await?)
}

/// The import of that id.
pub(crate) async fn import_by_id(db: &mut PgConnection, id: Uuid) -> Result<Option<Import>, Error> {
    Ok(sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM imports i JOIN registered_models m USING (model_key) WHERE i.id = $1"
    ))
    .bind(id)
    .fetch_optional(db)
    .await?)
}

/// Ends an import; whether there was one.
pub(crate) async fn import_delete(db: &mut PgConnection, import_key: i64) -> Result<bool, Error> {
    let deleted =
        sqlx::query("DELETE FROM imports WHERE import_key = $1").bind(import_key).execute(db).await?;
    Ok(deleted.rows_affected() > 0)
}

/// Ends the imports of a model whose versions get this alias.
pub(crate) async fn imports_delete_of_alias(
    db: &mut PgConnection,
    model: &str,
    alias: &str,
) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM imports i USING registered_models m WHERE m.model_key = i.model_key AND m.name = $1 \
         AND i.alias = $2",
    )
    .bind(model)
    .bind(alias)
    .execute(db)
    .await?;
    Ok(())
}

/// The imports whose address has to be looked at, and those whose bytes were delivered.
pub(crate) async fn imports_due(db: &mut PgConnection) -> Result<Vec<Import>, Error> {
    Ok(sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM imports i JOIN registered_models m USING (model_key) \
         WHERE (i.watch OR i.version IS NULL OR i.problem IS NOT NULL) \
         AND (NOT i.delivered OR EXISTS (SELECT 1 FROM import_deliveries d \
         WHERE d.import_key = i.import_key AND d.completed)) ORDER BY i.import_key"
    ))
    .fetch_all(db)
    .await?)
}

/// Notes the version that content became.
pub(crate) async fn import_done(
    db: &mut PgConnection,
    import_key: i64,
    fingerprint: &str,
    version: i32,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE imports SET fingerprint = $2, version = $3, problem = NULL, updated_ms = $4 \
         WHERE import_key = $1",
    )
    .bind(import_key)
    .bind(fingerprint)
    .bind(version)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Notes why content has not become a version, or that nothing is in its way any more.
pub(crate) async fn import_problem(
    db: &mut PgConnection,
    import_key: i64,
    problem: Option<&str>,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE imports SET problem = $2, updated_ms = $3 WHERE import_key = $1 \
         AND problem IS DISTINCT FROM $2",
    )
    .bind(import_key)
    .bind(problem)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Notes how much of the content is stored.
pub(crate) async fn import_progress(
    db: &mut PgConnection,
    import_key: i64,
    done_bytes: i64,
    total_bytes: i64,
) -> Result<(), Error> {
    sqlx::query("UPDATE imports SET done_bytes = $2, total_bytes = $3 WHERE import_key = $1")
        .bind(import_key)
        .bind(done_bytes)
        .bind(total_bytes)
        .execute(db)
        .await?;
    Ok(())
}
