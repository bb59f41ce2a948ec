//! Rollouts and the decisions about them.

use slipway_domain::rollout::{Evidence, Rollout, Verdict};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// Columns of [`StoredRollout`] from rollouts `r` and deployments `d`.
macro_rules! columns {
    () => {
        "r.id, r.deployment_key, d.id AS deployment_id, d.deleted_at_ms AS deployment_deleted_at_ms, \
         r.deployment, r.model, r.state, r.traceparent"
    };
}

/// Start of a statement that reads [`StoredRollout`].
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM rollouts r JOIN deployments d USING (deployment_key) ", $rest)
    };
}

/// A rollout as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct StoredRollout {
    pub(crate) id: Uuid,
    pub(crate) deployment_key: i64,
    pub(crate) deployment_id: Uuid,
    /// When the deployment was deleted; `None` while it exists.
    pub(crate) deployment_deleted_at_ms: Option<i64>,
    pub(crate) deployment: String,
    pub(crate) model: String,
    pub(crate) state: Json<Rollout>,
    pub(crate) traceparent: Option<String>,
}

/// A decision as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Decision {
    pub(crate) seq: i64,
    pub(crate) at_ms: i64,
    pub(crate) step: i32,
    pub(crate) verdict: String,
    pub(crate) reason: String,
    pub(crate) evidence: Json<Evidence>,
}

/// A rollout to be stored.
#[derive(Debug)]
pub(crate) struct NewRow<'new> {
    pub(crate) id: Uuid,
    pub(crate) deployment_key: i64,
    pub(crate) model: &'new str,
    pub(crate) state: &'new Rollout,
    pub(crate) traceparent: Option<&'new str>,
    pub(crate) idempotency_key: Option<&'new str>,
}

/// Stores a new rollout.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    new: &NewRow<'_>,
) -> Result<StoredRollout, sqlx::Error> {
    sqlx::query_as(
        concat!(
            "WITH r AS (INSERT INTO rollouts (id, deployment_key, deployment, model, state, phase, active, traceparent, \
             idempotency_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING *) SELECT ",
            columns!(),
            " FROM r JOIN deployments d USING (deployment_key)"
        ),
    )
    .bind(new.id)
    .bind(new.deployment_key)
    .bind(new.state.deployment())
    .bind(new.model)
    .bind(Json(new.state))
    .bind(new.state.phase().as_str())
    .bind(new.state.is_active())
    .bind(new.traceparent)
    .bind(new.idempotency_key)
    .fetch_one(connection)
    .await
}

/// Stores what became of a rollout.
pub(crate) async fn save(
    connection: &mut PgConnection,
    id: Uuid,
    state: &Rollout,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE rollouts SET state = $2, phase = $3, active = $4 WHERE id = $1")
        .bind(id)
        .bind(Json(state))
        .bind(state.phase().as_str())
        .bind(state.is_active())
        .execute(connection)
        .await?;
    Ok(())
}

/// The rollout of that id.
pub(crate) async fn find(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<StoredRollout>, sqlx::Error> {
    sqlx::query_as(select!("WHERE r.id = $1")).bind(id).fetch_optional(connection).await
}

/// The rollout that a key was used for.
pub(crate) async fn find_by_key(
    connection: &mut PgConnection,
    key: &str,
) -> Result<Option<StoredRollout>, sqlx::Error> {
    sqlx::query_as(select!("WHERE r.idempotency_key = $1")).bind(key).fetch_optional(connection).await
}

/// The newest rollout of a deployment.
pub(crate) async fn newest(
    connection: &mut PgConnection,
    deployment_key: i64,
) -> Result<Option<StoredRollout>, sqlx::Error> {
    sqlx::query_as(select!("WHERE r.deployment_key = $1 ORDER BY r.seq DESC LIMIT 1"))
        .bind(deployment_key)
        .fetch_optional(connection)
        .await
}

/// The newest rollout of each of these deployments.
pub(crate) async fn newest_of(
    connection: &mut PgConnection,
    deployment_keys: &[i64],
) -> Result<Vec<StoredRollout>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT DISTINCT ON (r.deployment_key) ",
        columns!(),
        " FROM rollouts r JOIN deployments d USING (deployment_key) WHERE r.deployment_key = ANY($1) \
         ORDER BY r.deployment_key, r.seq DESC"
    ))
    .bind(deployment_keys)
    .fetch_all(connection)
    .await
}

/// The rollouts in progress.
pub(crate) async fn active(connection: &mut PgConnection) -> Result<Vec<StoredRollout>, sqlx::Error> {
    sqlx::query_as(select!("WHERE r.active ORDER BY r.seq")).fetch_all(connection).await
}

/// Ids of the rollouts in progress, by deployment.
pub(crate) async fn active_ids(connection: &mut PgConnection) -> Result<Vec<(i64, Uuid)>, sqlx::Error> {
    sqlx::query_as("SELECT deployment_key, id FROM rollouts WHERE active").fetch_all(connection).await
}

/// Which rollouts to list.
#[derive(Debug, Default)]
pub(crate) struct Filter<'filter> {
    /// Of the deployment that has this name now. Rollouts of deleted deployments of the name do not count.
    pub(crate) deployment: Option<&'filter str>,
    /// Of the deployment with this id, deleted or not.
    pub(crate) deployment_id: Option<Uuid>,
    /// Of deployments of these models that are not deleted; `None`: of all.
    pub(crate) models: Option<&'filter [String]>,
}

/// Where a rollout of the list is in it; `None` where the list does not have it.
pub(crate) async fn position(
    connection: &mut PgConnection,
    filter: &Filter<'_>,
    id: Uuid,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT r.seq FROM rollouts r JOIN deployments d USING (deployment_key) WHERE r.id = $1 \
         AND ($2::TEXT[] IS NULL OR (d.model = ANY($2) AND d.deleted_at_ms IS NULL))",
    )
    .bind(id)
    .bind(filter.models)
    .fetch_optional(connection)
    .await
}

/// Rollouts, the newest first, before the given one.
pub(crate) async fn list(
    connection: &mut PgConnection,
    filter: &Filter<'_>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredRollout>, sqlx::Error> {
    sqlx::query_as(select!(
        "WHERE ($1::TEXT IS NULL OR (d.name = $1 AND d.deleted_at_ms IS NULL)) AND ($4::UUID IS NULL OR d.id = $4) \
         AND ($5::TEXT[] IS NULL OR (d.model = ANY($5) AND d.deleted_at_ms IS NULL)) \
         AND ($2::BIGINT IS NULL OR r.seq < $2) ORDER BY r.seq DESC LIMIT $3"
    ))
    .bind(filter.deployment)
    .bind(before)
    .bind(limit)
    .bind(filter.deployment_id)
    .bind(filter.models)
    .fetch_all(connection)
    .await
}

/// A decision to be stored.
#[derive(Debug)]
pub(crate) struct NewDecision<'new> {
    /// Unix milliseconds.
    pub(crate) at_ms: i64,
    pub(crate) step: usize,
    pub(crate) verdict: Verdict,
    pub(crate) reason: &'new str,
    pub(crate) evidence: &'new Evidence,
}

/// Stores a decision about a rollout.
pub(crate) async fn insert_decision(
    connection: &mut PgConnection,
    id: Uuid,
    new: &NewDecision<'_>,
) -> Result<(), sqlx::Error> {
    let verdict = match new.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
    };
    sqlx::query(
        "INSERT INTO decisions (rollout_id, at_ms, step, verdict, reason, evidence) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(new.at_ms)
    .bind(i32::try_from(new.step).unwrap_or(i32::MAX))
    .bind(verdict)
    .bind(new.reason)
    .bind(Json(new.evidence))
    .execute(connection)
    .await?;
    Ok(())
}

/// The decisions about a rollout, newest first; with `before`, those before that number.
pub(crate) async fn decisions(
    connection: &mut PgConnection,
    id: Uuid,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Decision>, sqlx::Error> {
    sqlx::query_as(
        "SELECT seq, at_ms, step, verdict, reason, evidence FROM decisions \
         WHERE rollout_id = $1 AND ($2::bigint IS NULL OR seq < $2) ORDER BY seq DESC LIMIT $3",
    )
    .bind(id)
    .bind(before)
    .bind(limit)
    .fetch_all(connection)
    .await
}
