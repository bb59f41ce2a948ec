//! Deployments and their intended traffic tables.

use std::collections::BTreeMap;

use slipway_api::events::AliasMove;
use slipway_api::traffic::TrafficTable;
use slipway_domain::rollout::Strategy;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// Columns of [`Deployment`].
macro_rules! columns {
    () => {
        "deployment_key, id, name, model, watch_alias, default_strategy, traffic, last_alias_move, \
         created_at_ms, resource_uid, resource_generation"
    };
}

/// A deployment that is not deleted.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Deployment {
    pub(crate) deployment_key: i64,
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) watch_alias: Option<String>,
    pub(crate) default_strategy: Json<Strategy>,
    pub(crate) traffic: Json<TrafficTable>,
    pub(crate) last_alias_move: Option<Json<AliasMove>>,
    pub(crate) created_at_ms: i64,
    /// The object of a Kubernetes cluster that it comes from; `None`: it was created by a client.
    pub(crate) resource_uid: Option<String>,
    /// Generation of that object that was applied last.
    pub(crate) resource_generation: Option<i64>,
}

/// The object of a Kubernetes cluster that a deployment comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) uid: String,
    /// Generation from which the deployment is made.
    pub(crate) generation: i64,
}

/// A deployment to be made.
#[derive(Debug)]
pub(crate) struct NewDeployment<'new> {
    /// Also in its traffic table, from which prediction records have it.
    pub(crate) id: Uuid,
    pub(crate) watch_alias: Option<&'new str>,
    pub(crate) default_strategy: &'new Strategy,
    pub(crate) traffic: &'new TrafficTable,
    pub(crate) now_ms: i64,
    pub(crate) origin: Option<&'new Origin>,
}

/// Makes a deployment; `None` where the name is taken.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    new: &NewDeployment<'_>,
) -> Result<Option<Deployment>, sqlx::Error> {
    sqlx::query_as(concat!(
        "INSERT INTO deployments (name, model, watch_alias, default_strategy, traffic, created_at_ms, \
             id, resource_uid, resource_generation) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (name) WHERE deleted_at_ms IS NULL DO NOTHING RETURNING ",
        columns!()
    ))
    .bind(&new.traffic.deployment)
    .bind(&new.traffic.model)
    .bind(new.watch_alias)
    .bind(Json(new.default_strategy))
    .bind(Json(new.traffic))
    .bind(new.now_ms)
    .bind(new.id)
    .bind(new.origin.map(|origin| &origin.uid))
    .bind(new.origin.map(|origin| origin.generation))
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
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM deployments WHERE name = $1 AND deleted_at_ms IS NULL"
    ))
    .bind(name)
    .fetch_optional(connection)
    .await
}

/// The same, locked until the transaction ends. Every change of a rollout of the deployment takes this lock
/// first.
pub(crate) async fn lock(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Deployment>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM deployments WHERE name = $1 AND deleted_at_ms IS NULL FOR UPDATE"
    ))
    .bind(name)
    .fetch_optional(connection)
    .await
}

/// [`lock`] by the deployment's own key, so that a namesake is never taken for it.
pub(crate) async fn lock_key(
    connection: &mut PgConnection,
    deployment_key: i64,
) -> Result<Option<Deployment>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM deployments WHERE deployment_key = $1 AND deleted_at_ms IS NULL FOR UPDATE"
    ))
    .bind(deployment_key)
    .fetch_optional(connection)
    .await
}

/// The deployments of these keys that are not deleted.
pub(crate) async fn of_keys(
    connection: &mut PgConnection,
    deployment_keys: &[i64],
) -> Result<Vec<Deployment>, sqlx::Error> {
    if deployment_keys.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM deployments WHERE deployment_key = ANY($1) AND deleted_at_ms IS NULL"
    ))
    .bind(deployment_keys)
    .fetch_all(connection)
    .await
}

/// The deployments of these objects of a Kubernetes cluster.
pub(crate) async fn of_resources(
    connection: &mut PgConnection,
    uids: &[String],
) -> Result<Vec<Deployment>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM deployments WHERE resource_uid = ANY($1) AND deleted_at_ms IS NULL"
    ))
    .bind(uids)
    .fetch_all(connection)
    .await
}

/// Stores that a generation of the object was applied, unless a later one was.
pub(crate) async fn set_resource_generation(
    connection: &mut PgConnection,
    uid: &str,
    generation: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE deployments SET resource_generation = $2 WHERE resource_uid = $1 AND deleted_at_ms IS NULL \
         AND resource_generation < $2",
    )
    .bind(uid)
    .bind(generation)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deployments whose watched alias was moved while the kill switch was on, and whose switch is off now.
pub(crate) async fn pending_moves(connection: &mut PgConnection) -> Result<Vec<Deployment>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM deployments WHERE deleted_at_ms IS NULL AND last_alias_move->>'outcome' = 'pending' \
         AND traffic->'kill_switch' IS NULL ORDER BY name"
    ))
    .fetch_all(connection)
    .await
}

/// Stores what came of the last move of the watched alias; `None` removes it.
pub(crate) async fn set_alias_move(
    connection: &mut PgConnection,
    deployment_key: i64,
    moved: Option<&AliasMove>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE deployments SET last_alias_move = $2 WHERE deployment_key = $1")
        .bind(deployment_key)
        .bind(moved.map(Json))
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores the settings that [`crate::update`] changes.
pub(crate) async fn set_settings(
    connection: &mut PgConnection,
    deployment_key: i64,
    watch_alias: Option<&str>,
    default_strategy: &Strategy,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE deployments SET watch_alias = $2, default_strategy = $3 WHERE deployment_key = $1")
        .bind(deployment_key)
        .bind(watch_alias)
        .bind(Json(default_strategy))
        .execute(connection)
        .await?;
    Ok(())
}

/// Deployments by name, behind the given one.
pub(crate) async fn list(
    connection: &mut PgConnection,
    models: Option<&[String]>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Deployment>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM deployments WHERE deleted_at_ms IS NULL AND ($1::TEXT IS NULL OR name > $1) \
             AND ($3::TEXT[] IS NULL OR model = ANY($3)) ORDER BY name LIMIT $2"
    ))
    .bind(after)
    .bind(limit)
    .bind(models)
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

/// Revision of every intended table, by deployment.
pub(crate) async fn revisions(connection: &mut PgConnection) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let revisions: Vec<(String, i64)> = sqlx::query_as(
        "SELECT name, (traffic->>'revision')::BIGINT FROM deployments WHERE deleted_at_ms IS NULL",
    )
    .fetch_all(connection)
    .await?;
    let unsigned = |(name, revision): (String, i64)| (name, u64::try_from(revision).unwrap_or_default());
    Ok(revisions.into_iter().map(unsigned).collect())
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
