//! What the owner of a deployment should know and no rollout shows.

use std::collections::HashMap;

use slipway_domain::traffic::TrafficTable;
use sqlx::PgConnection;

use super::deployments::Deployment;

/// The notice about the watched alias.
pub(crate) const ALIAS: &str = "alias";
/// The notice about a drill against users.
pub(crate) const DRILL: &str = "drill";
const VERSION: &str = "version/";
const MAX_NOTICES: i64 = 50;
/// Longer messages are cut there.
const MAX_MESSAGE_CHARS: usize = 2_000;

/// A notice as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Notice {
    deployment_key: i64,
    /// `alias`, `drill` or `version/<number>`.
    pub(crate) about: String,
    /// Unix milliseconds.
    pub(crate) at_ms: i64,
    pub(crate) message: String,
}

/// A notice to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewNotice<'new> {
    pub(crate) about: &'new str,
    pub(crate) message: &'new str,
}

/// The subject of a notice about a version.
pub(crate) fn about_version(version: &str) -> String {
    format!("{VERSION}{version}")
}

/// Stores a notice in place of the previous one about the same subject.
pub(crate) async fn set(
    connection: &mut PgConnection,
    deployment_key: i64,
    new: NewNotice<'_>,
    at_ms: i64,
) -> Result<(), sqlx::Error> {
    let message: String = new.message.chars().take(MAX_MESSAGE_CHARS).collect();
    sqlx::query(
        "INSERT INTO deployment_notices (deployment_key, about, at_ms, message) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (deployment_key, about) DO UPDATE \
         SET at_ms = excluded.at_ms, message = excluded.message",
    )
    .bind(deployment_key)
    .bind(new.about)
    .bind(at_ms)
    .bind(message)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the notice about a subject.
pub(crate) async fn clear(
    connection: &mut PgConnection,
    deployment_key: i64,
    about: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM deployment_notices WHERE deployment_key = $1 AND about = $2")
        .bind(deployment_key)
        .bind(about)
        .execute(connection)
        .await?;
    Ok(())
}

/// The notices that count now, by the keys of `deployments` and in the order of their subjects.
pub(crate) async fn of(
    connection: &mut PgConnection,
    deployments: &[Deployment],
) -> Result<HashMap<i64, Vec<Notice>>, sqlx::Error> {
    let keys: Vec<i64> = deployments.iter().map(|deployment| deployment.deployment_key).collect();
    let rows: Vec<Notice> = sqlx::query_as(
        "SELECT deployment_key, about, at_ms, message FROM (SELECT *, row_number() \
         OVER (PARTITION BY deployment_key ORDER BY about) AS place FROM deployment_notices \
         WHERE deployment_key = ANY($1)) n WHERE place <= $2 ORDER BY deployment_key, about",
    )
    .bind(keys)
    .bind(MAX_NOTICES)
    .fetch_all(connection)
    .await?;
    let tables: HashMap<i64, &TrafficTable> =
        deployments.iter().map(|deployment| (deployment.deployment_key, &deployment.traffic.0)).collect();
    let mut found: HashMap<i64, Vec<Notice>> = HashMap::new();
    for notice in rows {
        let counts = match notice.about.strip_prefix(VERSION) {
            Some(version) => tables.get(&notice.deployment_key).is_some_and(|table| names(table, version)),
            None => true,
        };
        if counts {
            found.entry(notice.deployment_key).or_default().push(notice);
        }
    }
    Ok(found)
}

fn names(table: &TrafficTable, version: &str) -> bool {
    table.targets().any(|target| target.version == version)
}
