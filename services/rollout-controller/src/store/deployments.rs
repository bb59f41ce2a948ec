//! Deployments and their intended traffic tables.

use slipway_api::traffic::TrafficTable;
use slipway_domain::rollout::Strategy;
use sqlx::PgConnection;
use sqlx::types::Json;

/// A deployment that is not deleted.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Deployment {
    pub(crate) deployment_key: i64,
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) watch_alias: Option<String>,
    pub(crate) default_strategy: Json<Strategy>,
    pub(crate) traffic: Json<TrafficTable>,
    pub(crate) created_at_ms: i64,
}

/// A deployment to be made.
#[derive(Debug)]
pub(crate) struct NewDeployment<'new> {
    pub(crate) watch_alias: Option<&'new str>,
    pub(crate) default_strategy: &'new Strategy,
    pub(crate) traffic: &'new TrafficTable,
    pub(crate) now_ms: i64,
}

/// Makes a deployment; `None` where the name is taken.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    new: &NewDeployment<'_>,
) -> Result<Option<Deployment>, sqlx::Error> {
    sqlx::query_as(
        "INSERT INTO deployments (name, model, watch_alias, default_strategy, traffic, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) WHERE deleted_at_ms IS NULL DO NOTHING \
         RETURNING deployment_key, name, model, watch_alias, default_strategy, traffic, created_at_ms",
    )
    .bind(&new.traffic.deployment)
    .bind(&new.traffic.model)
    .bind(new.watch_alias)
    .bind(Json(new.default_strategy))
    .bind(Json(new.traffic))
    .bind(new.now_ms)
    .fetch_optional(connection)
    .await
}

/// Highest table revision that a deployment of this name ever had.
pub(crate) async fn last_revision(connection: &mut PgConnection, name: &str) -> Result<u64, sqlx::Error> {
    let revision: Option<i64> =
        sqlx::query_scalar("SELECT max((traffic->>'revision')::BIGINT) FROM deployments WHERE name = $1")
            .bind(name)
            .fetch_one(connection)
            .await?;
    Ok(revision.and_then(|revision| u64::try_from(revision).ok()).unwrap_or(0))
}

/// The deployment of that name.
pub(crate) async fn find(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Deployment>, sqlx::Error> {
    sqlx::query_as(
        "SELECT deployment_key, name, model, watch_alias, default_strategy, traffic, created_at_ms FROM deployments \
         WHERE name = $1 AND deleted_at_ms IS NULL",
    )
    .bind(name)
    .fetch_optional(connection)
    .await
}

/// The same, held until the transaction ends. Whoever changes a rollout of the deployment takes this lock first.
pub(crate) async fn lock(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Deployment>, sqlx::Error> {
    sqlx::query_as(
        "SELECT deployment_key, name, model, watch_alias, default_strategy, traffic, created_at_ms FROM deployments \
         WHERE name = $1 AND deleted_at_ms IS NULL FOR UPDATE",
    )
    .bind(name)
    .fetch_optional(connection)
    .await
}

/// Deployments by name, behind the given one.
pub(crate) async fn list(
    connection: &mut PgConnection,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Deployment>, sqlx::Error> {
    sqlx::query_as(
        "SELECT deployment_key, name, model, watch_alias, default_strategy, traffic, created_at_ms FROM deployments \
         WHERE deleted_at_ms IS NULL AND ($1::TEXT IS NULL OR name > $1) ORDER BY name LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Names of the deployments that an alias starts rollouts of.
pub(crate) async fn watching(
    connection: &mut PgConnection,
    model: &str,
    alias: &str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT name FROM deployments WHERE model = $1 AND watch_alias = $2 AND deleted_at_ms IS NULL ORDER BY name",
    )
    .bind(model)
    .bind(alias)
    .fetch_all(connection)
    .await
}

/// Every intended table.
pub(crate) async fn tables(connection: &mut PgConnection) -> Result<Vec<TrafficTable>, sqlx::Error> {
    let tables: Vec<Json<TrafficTable>> =
        sqlx::query_scalar("SELECT traffic FROM deployments WHERE deleted_at_ms IS NULL")
            .fetch_all(connection)
            .await?;
    Ok(tables.into_iter().map(|table| table.0).collect())
}

/// Stores the intended table.
pub(crate) async fn set_traffic(
    connection: &mut PgConnection,
    deployment_key: i64,
    table: &TrafficTable,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE deployments SET traffic = $2 WHERE deployment_key = $1")
        .bind(deployment_key)
        .bind(Json(table))
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes a deployment.
pub(crate) async fn delete(
    connection: &mut PgConnection,
    deployment_key: i64,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE deployments SET deleted_at_ms = $2 WHERE deployment_key = $1")
        .bind(deployment_key)
        .bind(now_ms)
        .execute(connection)
        .await?;
    Ok(())
}
