//! Removes for good what was deleted long enough ago, and what belongs to it.

use sqlx::PgConnection;

use crate::error::Error;

/// What a purge would remove.
#[derive(Debug, Default, sqlx::FromRow)]
pub(crate) struct Due {
    pub(crate) runs: i64,
    /// Deleted runs that stay, because a model version was made from them.
    pub(crate) runs_kept: i64,
    pub(crate) logged_models: i64,
    pub(crate) experiments: i64,
    pub(crate) files: i64,
    pub(crate) size_bytes: i64,
}

/// A run or a logged model that is due.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) artifact_uri: String,
}

/// Counts what was deleted before `before_ms` and would go.
pub(crate) async fn purge_count(db: &mut PgConnection, before_ms: i64) -> Result<Due, Error> {
    Ok(sqlx::query_as(
        "WITH runs_due AS (SELECT r.artifact_uri, EXISTS (SELECT 1 FROM model_versions v \
         WHERE v.run_id = r.run_id) AS kept \
           FROM runs r WHERE r.deleted_ms < $1), \
         models_due AS (SELECT l.artifact_uri FROM logged_models l WHERE l.deleted_ms < $1 \
           AND NOT EXISTS (SELECT 1 FROM model_versions v WHERE v.logged_model_id = l.model_id)), \
         roots AS (SELECT ltrim(substr(artifact_uri, length('mlflow-artifacts:') + 1), '/') AS root FROM \
           (SELECT artifact_uri FROM runs_due WHERE NOT kept UNION ALL SELECT artifact_uri \
           FROM models_due) AS due \
           WHERE artifact_uri LIKE 'mlflow-artifacts:%'), \
         files AS (SELECT a.size_bytes FROM roots JOIN artifacts a ON a.path > root || '/' \
         AND a.path < root || '0' \
           WHERE NOT EXISTS (SELECT 1 FROM model_version_files f WHERE f.artifact_path = a.path)) \
         SELECT (SELECT count(*) FROM runs_due WHERE NOT kept) AS runs, (SELECT count(*) FROM runs_due \
         WHERE kept) AS runs_kept, \
           (SELECT count(*) FROM models_due) AS logged_models, \
           (SELECT count(*) FROM experiments e WHERE e.deleted_ms < $1 \
             AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.experiment_id = e.experiment_id \
             AND (r.deleted_ms IS NULL \
               OR r.deleted_ms >= $1 OR EXISTS (SELECT 1 FROM model_versions v WHERE v.run_id = r.run_id))) \
             AND NOT EXISTS (SELECT 1 FROM logged_models l WHERE l.experiment_id = e.experiment_id \
             AND (l.deleted_ms IS NULL \
               OR l.deleted_ms >= $1 OR EXISTS (SELECT 1 FROM model_versions v \
               WHERE v.logged_model_id = l.model_id)))) AS experiments, \
           (SELECT count(*) FROM files) AS files, coalesce((SELECT sum(size_bytes) \
           FROM files), 0)::BIGINT AS size_bytes",
    )
    .bind(before_ms)
    .fetch_one(db)
    .await?)
}

/// Runs that are due, those first whose purge was interrupted.
pub(crate) async fn runs_due(db: &mut PgConnection, before_ms: i64, limit: i64) -> Result<Vec<Entry>, Error> {
    Ok(sqlx::query_as(
        "SELECT r.run_id AS id, r.artifact_uri FROM runs r WHERE r.deleted_ms < $1 AND (r.purging \
         OR NOT EXISTS (SELECT 1 FROM model_versions v WHERE v.run_id = r.run_id)) \
         ORDER BY r.purging DESC, r.deleted_ms LIMIT $2",
    )
    .bind(before_ms)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Makes a run vanish, unless it was restored or a version was made from it meanwhile. The caller commits.
pub(crate) async fn run_hide(
    db: &mut PgConnection,
    run_id: &str,
    before_ms: i64,
) -> Result<Option<i64>, Error> {
    // Locked before the versions are read: creating one locks the run too.
    let locked: Option<(i64, bool)> =
        sqlx::query_as("SELECT run_key, purging FROM runs WHERE run_id = $1 AND deleted_ms < $2 FOR UPDATE")
            .bind(run_id)
            .bind(before_ms)
            .fetch_optional(&mut *db)
            .await?;
    let Some((run_key, purging)) = locked else { return Ok(None) };
    let version: Option<i32> =
        sqlx::query_scalar("SELECT version FROM model_versions WHERE run_id = $1 LIMIT 1")
            .bind(run_id)
            .fetch_optional(&mut *db)
            .await?;
    if version.is_some() && !purging {
        return Ok(None);
    }
    sqlx::query("UPDATE runs SET purging = TRUE WHERE run_key = $1").bind(run_key).execute(db).await?;
    Ok(Some(run_key))
}

/// Holds a run against its purge while something is made from it.
pub(crate) async fn run_hold(db: &mut PgConnection, run_id: &str) -> Result<(), Error> {
    let purging: Option<bool> = sqlx::query_scalar("SELECT purging FROM runs WHERE run_id = $1 FOR SHARE")
        .bind(run_id)
        .fetch_optional(db)
        .await?;
    // A run of another server cannot be locked.
    if purging == Some(true) { Err(super::runs::absent(run_id)) } else { Ok(()) }
}

/// Removes at most `limit` points of a run; says how many.
pub(crate) async fn metrics_remove(db: &mut PgConnection, run_key: i64, limit: i64) -> Result<u64, Error> {
    let removed = sqlx::query(
        "DELETE FROM metrics WHERE run_key = $1 AND ctid = ANY(ARRAY(SELECT ctid FROM metrics \
         WHERE run_key = $1 LIMIT $2))",
    )
    .bind(run_key)
    .bind(limit)
    .execute(db)
    .await?;
    Ok(removed.rows_affected())
}

/// Removes a run with all that is left of it; `false` where another purge has.
pub(crate) async fn run_remove(db: &mut PgConnection, run_key: i64) -> Result<bool, Error> {
    let removed = sqlx::query("DELETE FROM runs WHERE run_key = $1").bind(run_key).execute(db).await?;
    Ok(removed.rows_affected() == 1)
}

/// Logged models that are due.
pub(crate) async fn logged_models_due(
    db: &mut PgConnection,
    before_ms: i64,
    limit: i64,
) -> Result<Vec<Entry>, Error> {
    Ok(sqlx::query_as(
        "SELECT l.model_id AS id, l.artifact_uri FROM logged_models l WHERE l.deleted_ms < $1 \
         AND NOT EXISTS (SELECT 1 FROM model_versions v WHERE v.logged_model_id = l.model_id) \
         ORDER BY l.deleted_ms LIMIT $2",
    )
    .bind(before_ms)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Removes a logged model with everything; `false` where it is not due any more.
pub(crate) async fn logged_model_remove(
    db: &mut PgConnection,
    model_id: &str,
    before_ms: i64,
) -> Result<bool, Error> {
    let removed = sqlx::query(
        "DELETE FROM logged_models l WHERE l.model_id = $1 AND l.deleted_ms < $2 \
         AND NOT EXISTS (SELECT 1 FROM model_versions v WHERE v.logged_model_id = l.model_id)",
    )
    .bind(model_id)
    .bind(before_ms)
    .execute(db)
    .await?;
    Ok(removed.rows_affected() == 1)
}

/// Removes deleted experiments that are empty by now; their ids.
pub(crate) async fn experiments_remove(
    db: &mut PgConnection,
    before_ms: i64,
    limit: i64,
) -> Result<Vec<i64>, Error> {
    let empty: Vec<i64> = sqlx::query_scalar(
        "SELECT e.experiment_id FROM experiments e WHERE e.deleted_ms < $1 \
         AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.experiment_id = e.experiment_id) \
         AND NOT EXISTS (SELECT 1 FROM logged_models l WHERE l.experiment_id = e.experiment_id) \
         ORDER BY e.experiment_id LIMIT $2 FOR UPDATE OF e",
    )
    .bind(before_ms)
    .bind(limit)
    .fetch_all(&mut *db)
    .await?;
    for statement in [
        "DELETE FROM datasets WHERE experiment_id = ANY($1)",
        "DELETE FROM grants WHERE scope IN (SELECT 'experiment:' || id \
         FROM UNNEST($1::BIGINT[]) AS gone (id))",
        "DELETE FROM experiments WHERE experiment_id = ANY($1)",
    ] {
        sqlx::query(statement).bind(&empty).execute(&mut *db).await?;
    }
    Ok(empty)
}

/// Takes the files under a directory away, but not those of a model version: their blobs and how many bytes
/// they have.
pub(crate) async fn files_remove(db: &mut PgConnection, root: &str) -> Result<Vec<(String, i64)>, Error> {
    Ok(sqlx::query_as(
        "DELETE FROM artifacts a WHERE a.path > $1 || '/' AND a.path < $1 || '0' \
         AND NOT EXISTS (SELECT 1 FROM model_version_files f WHERE f.artifact_path = a.path) \
         RETURNING a.blob_key, a.size_bytes",
    )
    .bind(root)
    .fetch_all(db)
    .await?)
}
