//! Versions that deployments use: by their traffic tables, and by what the rollout controller is about to
//! write into one.

use slipway_api::traffic::TrafficTable;
use sqlx::PgConnection;

use crate::error::Error;

/// A hold that no traffic table took over ends after this.
const HOLD_MS: i64 = 60_000;
/// A deployment whose table vanished from the bucket without a mark of its deletion counts for this long: the
/// rollout controller restores a lost bucket within seconds.
const MISSING_MS: i64 = 60_000;
/// Uses that one refusal looks up.
const MAX_USES: i64 = 100;

/// A version in use.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Use {
    /// 0 where the deployment is bound to the model and serves no version of it.
    pub(crate) version: i32,
    pub(crate) deployment: String,
    /// `stable`, `candidate`, `shadow`, `warm`, `held` or `bound`.
    pub(crate) role: String,
}

/// What the bucket says of a deployment.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Its table.
    Table(Box<TrafficTable>),
    /// It was deleted at that Unix time in milliseconds.
    Deleted(i64),
    /// There is no entry.
    Nothing,
}

/// Locks a deployment's row until the transaction ends: its table is to be read behind the lock, so that no
/// older table replaces a newer one.
pub(crate) async fn table_lock(db: &mut PgConnection, deployment: &str) -> Result<(), Error> {
    sqlx::query("INSERT INTO deployed_tables (deployment) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(deployment)
        .execute(&mut *db)
        .await?;
    sqlx::query("SELECT deployment FROM deployed_tables WHERE deployment = $1 FOR UPDATE")
        .bind(deployment)
        .execute(db)
        .await?;
    Ok(())
}

/// Stores what the bucket says of a locked deployment.
pub(crate) async fn table_store(
    db: &mut PgConnection,
    deployment: &str,
    seen: &Seen,
    now_ms: i64,
) -> Result<(), Error> {
    match seen {
        Seen::Table(table) => table_put(db, deployment, table).await,
        Seen::Deleted(at_ms) => {
            // Holds of a deployment of the same name that is created just now stay.
            sqlx::query("DELETE FROM version_holds WHERE deployment = $1 AND held_ms < $2")
                .bind(deployment)
                .bind(at_ms)
                .execute(&mut *db)
                .await?;
            table_remove(db, deployment).await
        }
        Seen::Nothing => {
            let since: Option<i64> = sqlx::query_scalar(
                "UPDATE deployed_tables SET missing_since_ms = coalesce(missing_since_ms, $2) \
                 WHERE deployment = $1 \
                 RETURNING missing_since_ms",
            )
            .bind(deployment)
            .bind(now_ms)
            .fetch_one(&mut *db)
            .await?;
            if since.is_some_and(|since| now_ms - since > MISSING_MS) {
                return table_remove(db, deployment).await;
            }
            Ok(())
        }
    }
}

async fn table_put(db: &mut PgConnection, deployment: &str, table: &TrafficTable) -> Result<(), Error> {
    sqlx::query("UPDATE deployed_tables SET model = $2, missing_since_ms = NULL WHERE deployment = $1")
        .bind(deployment)
        .bind(&table.model)
        .execute(&mut *db)
        .await?;
    sqlx::query("DELETE FROM deployed_versions WHERE deployment = $1")
        .bind(deployment)
        .execute(&mut *db)
        .await?;
    let (mut versions, mut digests, mut roles) = (Vec::new(), Vec::new(), Vec::new());
    for target in table.targets() {
        versions.push(target.version.as_str());
        digests.push(target.digest.as_str());
        roles.push(role(table, target));
    }
    sqlx::query(
        "INSERT INTO deployed_versions (deployment, version, digest, role) \
         SELECT $1, * FROM UNNEST($2::TEXT[], $3::TEXT[], $4::TEXT[]) ON CONFLICT DO NOTHING",
    )
    .bind(deployment)
    .bind(&versions)
    .bind(&digests)
    .bind(&roles)
    .execute(&mut *db)
    .await?;
    // From here on the table itself protects them.
    sqlx::query("DELETE FROM version_holds WHERE deployment = $1 AND version::TEXT = ANY($2)")
        .bind(deployment)
        .bind(&versions)
        .execute(db)
        .await?;
    Ok(())
}

fn role(table: &TrafficTable, target: &slipway_api::traffic::Target) -> &'static str {
    if table.stable.as_ref() == Some(target) {
        "stable"
    } else if table.candidates.iter().any(|candidate| candidate.target == *target) {
        "candidate"
    } else if table.shadows.iter().any(|shadow| shadow.target == *target) {
        "shadow"
    } else {
        "warm"
    }
}

async fn table_remove(db: &mut PgConnection, deployment: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM deployed_tables WHERE deployment = $1").bind(deployment).execute(db).await?;
    Ok(())
}

/// Deployments whose tables are known.
pub(crate) async fn tables(db: &mut PgConnection) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar("SELECT deployment FROM deployed_tables ORDER BY deployment").fetch_all(db).await?)
}

/// Deployments whose tables the bucket does not have, without saying that they were deleted.
pub(crate) async fn tables_missing(db: &mut PgConnection) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar("SELECT deployment FROM deployed_tables WHERE missing_since_ms IS NOT NULL")
        .fetch_all(db)
        .await?)
}

/// Keeps a version from being deleted until a deployment's table names it. The model's row is locked first,
/// as every deletion does: of the two, one sees the other.
pub(crate) async fn version_hold(
    db: &mut PgConnection,
    model_key: i64,
    version: i32,
    deployment: &str,
    now_ms: i64,
) -> Result<bool, Error> {
    let locked: Option<i64> = sqlx::query_scalar(
        "SELECT model_key FROM registered_models WHERE model_key = $1 \
           AND EXISTS (SELECT FROM model_versions v WHERE v.model_key = $1 AND v.version = $2) FOR SHARE",
    )
    .bind(model_key)
    .bind(version)
    .fetch_optional(&mut *db)
    .await?;
    if locked.is_none() {
        return Ok(false);
    }
    // Read again behind the lock, by a statement that sees what was committed meanwhile.
    let held = sqlx::query(
        "INSERT INTO version_holds (model_key, version, deployment, held_ms) \
         SELECT v.model_key, v.version, $3, $4 FROM model_versions v WHERE v.model_key = $1 \
         AND v.version = $2 \
         ON CONFLICT (model_key, version, deployment) DO UPDATE SET held_ms = excluded.held_ms",
    )
    .bind(model_key)
    .bind(version)
    .bind(deployment)
    .bind(now_ms)
    .execute(&mut *db)
    .await?;
    // Old ones leave on the way.
    sqlx::query("DELETE FROM version_holds WHERE held_ms < $1")
        .bind(now_ms - 60 * HOLD_MS)
        .execute(db)
        .await?;
    Ok(held.rows_affected() == 1)
}

/// Who uses a model's versions, or one of them. `current` is whether the traffic tables are followed now;
/// while they are not, a hold does not end, since the table that takes it over may be unseen.
pub(crate) async fn uses(
    db: &mut PgConnection,
    model_key: i64,
    version: Option<i32>,
    (now_ms, current): (i64, bool),
) -> Result<Vec<Use>, Error> {
    let held_after = if current { now_ms - HOLD_MS } else { now_ms - 60 * HOLD_MS };
    Ok(sqlx::query_as(
        "WITH names AS (SELECT name FROM registered_models WHERE model_key = $1 \
           UNION SELECT f.name FROM former_model_names f WHERE f.model_key = $1), \
         used AS ( \
           SELECT v.version, d.deployment, d.role FROM deployed_versions d JOIN deployed_tables t \
           USING (deployment) \
             JOIN model_versions v ON v.version::TEXT = d.version AND v.digest = d.digest \
             WHERE v.model_key = $1 AND ($2::INTEGER IS NULL OR v.version = $2) AND t.model IN (SELECT name \
             FROM names) \
           UNION ALL SELECT h.version, h.deployment, 'held' FROM version_holds h \
             WHERE h.model_key = $1 AND ($2::INTEGER IS NULL OR h.version = $2) AND h.held_ms > $3 \
           UNION ALL SELECT 0, t.deployment, 'bound' FROM deployed_tables t \
             WHERE $2::INTEGER IS NULL AND t.model IN (SELECT name FROM names) \
               AND NOT EXISTS (SELECT FROM deployed_versions d WHERE d.deployment = t.deployment)) \
         SELECT DISTINCT ON (deployment, version) version, deployment, role FROM used \
         ORDER BY deployment, version, role = 'held' LIMIT $4",
    )
    .bind(model_key)
    .bind(version)
    .bind(held_after)
    .bind(MAX_USES)
    .fetch_all(db)
    .await?)
}

/// The present name of a model that had this name before; `None` where there is a model of this name, or
/// never was one.
pub(crate) async fn renamed_to(db: &mut PgConnection, name: &str) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT m.name FROM former_model_names f JOIN registered_models m USING (model_key) \
         WHERE f.name = $1 \
           AND NOT EXISTS (SELECT FROM registered_models taken WHERE taken.name = $1)",
    )
    .bind(name)
    .fetch_optional(db)
    .await?)
}

/// Notes a rename in what is known of deployments; the name's revision.
pub(crate) async fn rename_note(
    db: &mut PgConnection,
    model_key: i64,
    (from, to): (&str, &str),
) -> Result<i32, Error> {
    sqlx::query("DELETE FROM former_model_names WHERE name = $1").bind(to).execute(&mut *db).await?;
    if from != to {
        sqlx::query(
            "INSERT INTO former_model_names (name, model_key) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET model_key = excluded.model_key",
        )
        .bind(from)
        .bind(model_key)
        .execute(&mut *db)
        .await?;
    }
    for statement in [
        "UPDATE deployments SET model = $2 WHERE model = $1",
        "UPDATE retention_rules SET rule = jsonb_set(rule, '{for,model}', to_jsonb($2::TEXT)) \
         WHERE rule->'for'->>'scope' = 'model' AND rule->'for'->>'model' = $1",
    ] {
        sqlx::query(statement).bind(from).bind(to).execute(&mut *db).await?;
    }
    Ok(sqlx::query_scalar(
        "UPDATE registered_models SET name_revision = name_revision + 1 WHERE model_key = $1 \
         RETURNING name_revision",
    )
    .bind(model_key)
    .fetch_one(db)
    .await?)
}
