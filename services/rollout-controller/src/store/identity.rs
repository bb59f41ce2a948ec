//! Which registered model a deployment is bound to, whatever the model is called.

use slipway_api::events::AliasSet;
use sqlx::PgConnection;

/// A registered model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model<'model> {
    /// Its identity; empty if unknown.
    pub(crate) id: &'model str,
    pub(crate) name: &'model str,
}

/// The name of a registered model, and how often the model was renamed before it got that name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModelName<'model> {
    pub(crate) name: &'model str,
    pub(crate) revision: i64,
}

/// A deployment whose model's identity and name are to be looked up.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Unidentified {
    pub(crate) name: String,
    pub(crate) model: String,
    /// A version that its traffic table names, and the digest of that version.
    pub(crate) version: String,
    pub(crate) digest: String,
}

/// Deployments whose model's identity is not known yet, or `all` of them. One whose table names no version
/// cannot be identified: by its name alone it might be another model.
pub(crate) async fn unidentified(
    connection: &mut PgConnection,
    all: bool,
    limit: i64,
) -> Result<Vec<Unidentified>, sqlx::Error> {
    sqlx::query_as(
        "SELECT name, model, target->>'version' AS version, target->>'digest' AS digest FROM ( \
           SELECT name, model, model_id, CASE WHEN traffic->'stable'->>'version' IS NOT NULL THEN \
           traffic->'stable' \
             ELSE traffic->'warm'->0 END AS target FROM deployments WHERE deleted_at_ms IS NULL) AS live \
         WHERE (model_id IS NULL OR $1) AND target->>'version' IS NOT NULL ORDER BY name LIMIT $2",
    )
    .bind(all)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Deployments of a model that have not followed this rename, or a later one, yet.
pub(crate) async fn to_rename(
    connection: &mut PgConnection,
    model_id: &str,
    from: &str,
    revision: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT name FROM deployments WHERE deleted_at_ms IS NULL AND model_name_revision < $3 \
           AND (model_id = $1 OR (model_id IS NULL AND model = $2)) ORDER BY name",
    )
    .bind(model_id)
    .bind(from)
    .bind(revision)
    .fetch_all(connection)
    .await
}

/// Gives a locked deployment the present name of its model; `false` where it has followed this rename, or a
/// later one, already.
pub(crate) async fn set(
    connection: &mut PgConnection,
    deployment_key: i64,
    model_id: &str,
    name: ModelName<'_>,
) -> Result<bool, sqlx::Error> {
    let set = sqlx::query(
        "UPDATE deployments SET model = $3, model_id = $2, model_name_revision = $4 \
         WHERE deployment_key = $1 \
           AND (model_id IS NULL OR (model_id = $2 AND model_name_revision < $4))",
    )
    .bind(deployment_key)
    .bind(model_id)
    .bind(name.name)
    .bind(name.revision)
    .execute(&mut *connection)
    .await?;
    if set.rows_affected() == 0 {
        return Ok(false);
    }
    // Events that are still to come of a rollout have the present name.
    sqlx::query("UPDATE rollouts SET model = $2 WHERE deployment_key = $1 AND model <> $2")
        .bind(deployment_key)
        .bind(name.name)
        .execute(connection)
        .await?;
    Ok(true)
}

/// Names of the deployments that watch the alias which was set.
pub(crate) async fn watching(
    connection: &mut PgConnection,
    alias: &AliasSet,
) -> Result<Vec<String>, sqlx::Error> {
    let model = Model { id: &alias.model_id, name: &alias.model };
    watching_alias(connection, model, &alias.alias).await
}

/// Names of the deployments that watch an alias of a model, by its identity where that is known, else by its
/// name.
pub(crate) async fn watching_alias(
    connection: &mut PgConnection,
    model: Model<'_>,
    alias: &str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT name FROM deployments WHERE deleted_at_ms IS NULL AND watch_alias = $3 \
           AND ((model_id = $1 AND $1 <> '') OR ((model_id IS NULL OR $1 = '') AND model = $2)) \
           ORDER BY name",
    )
    .bind(model.id)
    .bind(model.name)
    .bind(alias)
    .fetch_all(connection)
    .await
}

/// Names of the deployments of a model whose traffic tables name a version.
pub(crate) async fn serving(
    connection: &mut PgConnection,
    model: &str,
    version: &str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT name FROM deployments WHERE deleted_at_ms IS NULL AND model = $1 AND ( \
           traffic @> jsonb_build_object('stable', jsonb_build_object('version', $2::TEXT)) \
           OR traffic @> jsonb_build_object('candidates', jsonb_build_array(jsonb_build_object('target', \
           jsonb_build_object('version', $2::TEXT)))) \
           OR traffic @> jsonb_build_object('shadows', jsonb_build_array(jsonb_build_object('target', \
           jsonb_build_object('version', $2::TEXT)))) \
           OR traffic @> jsonb_build_object('warm', jsonb_build_array(jsonb_build_object('version', \
           $2::TEXT)))) ORDER BY name",
    )
    .bind(model)
    .bind(version)
    .fetch_all(connection)
    .await
}
