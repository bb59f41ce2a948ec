//! Where versions are deployed.

use slipway_domain::registry::deployed::{Deployed, Placed};
use sqlx::PgConnection;

use crate::error::Error;

/// Maximum number of listed deployments of one version.
const MAX_TOLD: i64 = 1_000;

#[derive(Debug, sqlx::FromRow)]
struct Row {
    deployment: String,
    model: String,
    stable_version: Option<String>,
    stable_since_ms: Option<i64>,
    candidate_version: Option<String>,
    candidate_since_ms: Option<i64>,
    candidate_weight_percent: i16,
    told_ms: i64,
}

impl From<Row> for Deployed {
    fn from(row: Row) -> Self {
        let placed = |version: Option<String>, since: Option<i64>| {
            Some(Placed { version: version?, since_ms: since.unwrap_or_default() })
        };
        Self {
            model: row.model,
            stable: placed(row.stable_version, row.stable_since_ms),
            candidate: placed(row.candidate_version, row.candidate_since_ms),
            candidate_weight_percent: u8::try_from(row.candidate_weight_percent).unwrap_or_default(),
            told_ms: row.told_ms,
        }
    }
}

const SELECT: &str = "SELECT deployment, model, stable_version, stable_since_ms, candidate_version, \
    candidate_since_ms, \
    candidate_weight_percent, told_ms FROM deployments";

/// What is known of a deployment; its row is held.
pub(crate) async fn deployment_hold(db: &mut PgConnection, name: &str) -> Result<Deployed, Error> {
    // Two replicas may hear of a new one at the same time.
    sqlx::query(
        "INSERT INTO deployments (deployment, model, candidate_weight_percent, told_ms) \
         VALUES ($1, '', 0, 0) \
         ON CONFLICT DO NOTHING",
    )
    .bind(name)
    .execute(&mut *db)
    .await?;
    let row: Row = sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} WHERE deployment = $1 FOR UPDATE")))
        .bind(name)
        .fetch_one(db)
        .await?;
    Ok(row.into())
}

/// Stores what is known of a deployment.
pub(crate) async fn deployment_put(
    db: &mut PgConnection,
    name: &str,
    deployed: &Deployed,
) -> Result<(), Error> {
    let (stable, candidate) = (deployed.stable.as_ref(), deployed.candidate.as_ref());
    sqlx::query(
        "UPDATE deployments SET model = $2, stable_version = $3, stable_since_ms = $4, \
         candidate_version = $5, \
           candidate_since_ms = $6, candidate_weight_percent = $7, told_ms = $8 WHERE deployment = $1",
    )
    .bind(name)
    .bind(&deployed.model)
    .bind(stable.map(|placed| &placed.version))
    .bind(stable.map(|placed| placed.since_ms))
    .bind(candidate.map(|placed| &placed.version))
    .bind(candidate.map(|placed| placed.since_ms))
    .bind(i16::from(deployed.candidate_weight_percent))
    .bind(deployed.told_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// The deployments that a version has a place in, by name.
pub(crate) async fn deployments_of(
    db: &mut PgConnection,
    model: &str,
    version: i32,
) -> Result<Vec<(String, Deployed)>, Error> {
    let sql = format!(
        "{SELECT} WHERE model = $1 AND (stable_version = $2 OR candidate_version = $2) ORDER BY deployment \
         LIMIT $3"
    );
    let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(model)
        .bind(version.to_string())
        .bind(MAX_TOLD)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.deployment.clone(), row.into())).collect())
}
