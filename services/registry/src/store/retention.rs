//! Retention rules, and what they look at.

use slipway_domain::registry::retention::{Facts, Goal, Hold, KeepBest, Rule};
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::error::Error;

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) rule: Json<Rule>,
    pub(crate) enabled: bool,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
}

/// The refusal for a rule that is not there.
pub(crate) fn absent(name: &str) -> Error {
    Error::not_found(format!("There is no retention rule '{name}'"))
}

pub(crate) async fn rule_get(db: &mut PgConnection, name: &str) -> Result<Stored, Error> {
    sqlx::query_as("SELECT name, rule, enabled, created_ms, updated_ms FROM retention_rules WHERE name = $1")
        .bind(name)
        .fetch_optional(db)
        .await?
        .ok_or_else(|| absent(name))
}

/// Rules by name, behind `after`.
pub(crate) async fn rule_list(
    db: &mut PgConnection,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Stored>, Error> {
    Ok(sqlx::query_as(
        "SELECT name, rule, enabled, created_ms, updated_ms FROM retention_rules WHERE name > $1 \
         ORDER BY name LIMIT $2",
    )
    .bind(after.unwrap_or_default())
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Makes a rule, or puts it in the place of the one before; `true` where it is new.
pub(crate) async fn rule_put(
    db: &mut PgConnection,
    name: &str,
    rule: &Rule,
    enabled: bool,
    now_ms: i64,
) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "INSERT INTO retention_rules (name, rule, enabled, created_ms, updated_ms) \
         VALUES ($1, $2, $3, $4, $4) \
         ON CONFLICT (name) DO UPDATE SET rule = excluded.rule, enabled = excluded.enabled, \
         updated_ms = excluded.updated_ms \
         RETURNING xmax = 0",
    )
    .bind(name)
    .bind(Json(rule))
    .bind(enabled)
    .bind(now_ms)
    .fetch_one(db)
    .await?)
}

pub(crate) async fn rule_delete(db: &mut PgConnection, name: &str) -> Result<(), Error> {
    let removed = sqlx::query("DELETE FROM retention_rules WHERE name = $1").bind(name).execute(db).await?;
    if removed.rows_affected() == 1 { Ok(()) } else { Err(absent(name)) }
}

/// The next experiment behind `after` that is not deleted, of that name where one is given.
pub(crate) async fn experiment_next(
    db: &mut PgConnection,
    after: i64,
    name: Option<&str>,
) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT experiment_id FROM experiments WHERE experiment_id > $1 AND ($2::TEXT IS NULL OR name = $2) \
         ORDER BY experiment_id LIMIT 1",
    )
    .bind(after)
    .bind(name)
    .fetch_optional(db)
    .await?)
}

/// Which runs of an experiment a rule is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunSet<'rule> {
    pub(crate) experiment_id: i64,
    pub(crate) tag: Option<(&'rule str, Option<&'rule str>)>,
}

impl<'rule> RunSet<'rule> {
    fn key(&self) -> Option<&'rule str> {
        self.tag.map(|(key, _)| key)
    }
    fn value(&self) -> Option<&'rule str> {
        self.tag.and_then(|(_, value)| value)
    }
}

/// The best runs that are not deleted.
pub(crate) async fn runs_best(
    db: &mut PgConnection,
    set: RunSet<'_>,
    best: &KeepBest,
) -> Result<Vec<String>, Error> {
    let statement = match best.goal {
        Goal::Maximize => {
            "SELECT r.run_id FROM latest_metrics x JOIN runs r USING (run_key) WHERE x.experiment_id = $1 \
             AND x.key = $2 \
             AND x.value <> 'NaN' AND r.deleted_ms IS NULL AND ($4::TEXT IS NULL OR EXISTS (SELECT 1 \
             FROM run_tags t \
               WHERE t.run_key = r.run_key AND t.key = $4 AND ($5::TEXT IS NULL OR t.value = $5))) \
             ORDER BY x.value DESC, r.run_id LIMIT $3"
        }
        Goal::Minimize => {
            "SELECT r.run_id FROM latest_metrics x JOIN runs r USING (run_key) WHERE x.experiment_id = $1 \
             AND x.key = $2 \
             AND x.value <> 'NaN' AND r.deleted_ms IS NULL AND ($4::TEXT IS NULL OR EXISTS (SELECT 1 \
             FROM run_tags t \
               WHERE t.run_key = r.run_key AND t.key = $4 AND ($5::TEXT IS NULL OR t.value = $5))) \
             ORDER BY x.value, r.run_id LIMIT $3"
        }
    };
    Ok(sqlx::query_scalar(statement)
        .bind(set.experiment_id)
        .bind(&best.metric)
        .bind(i64::from(best.k))
        .bind(set.key())
        .bind(set.value())
        .fetch_all(db)
        .await?)
}

/// The newest runs that are not deleted.
pub(crate) async fn runs_last(db: &mut PgConnection, set: RunSet<'_>, k: u32) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT r.run_id FROM runs r WHERE r.experiment_id = $1 AND r.deleted_ms IS NULL \
           AND ($3::TEXT IS NULL OR EXISTS (SELECT 1 FROM run_tags t WHERE t.run_key = r.run_key \
           AND t.key = $3 \
             AND ($4::TEXT IS NULL OR t.value = $4))) ORDER BY r.start_ms DESC, r.run_id LIMIT $2",
    )
    .bind(set.experiment_id)
    .bind(i64::from(k))
    .bind(set.key())
    .bind(set.value())
    .fetch_all(db)
    .await?)
}

/// A run that a rule looks at.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct RunCandidate {
    pub(crate) run_id: String,
    pub(crate) start_ms: i64,
    pub(crate) artifact_uri: String,
    status: String,
    end_ms: Option<i64>,
    deleted_ms: Option<i64>,
    versions: Vec<String>,
    /// Bytes under its artifact directory that no version pins.
    pub(crate) size_bytes: i64,
}

impl RunCandidate {
    pub(crate) fn facts(&self, best: &[String], last: &[String]) -> Facts {
        let running = self.deleted_ms.is_none() && matches!(self.status.as_str(), "RUNNING" | "SCHEDULED");
        let mut holds = Vec::new();
        if running {
            holds.push(Hold::Running);
        }
        if !self.versions.is_empty() {
            holds.push(Hold::Registered(self.versions.clone()));
        }
        Facts {
            ended_ms: self.end_ms.unwrap_or(self.start_ms),
            gone_already: self.deleted_ms.is_some(),
            among_best: best.contains(&self.run_id),
            among_last: last.contains(&self.run_id),
            holds,
        }
    }
}

// Versions count that were made from the run, or from a logged model of it.
const RUN: &str = "SELECT r.run_id, r.start_ms, r.artifact_uri, r.status, r.end_ms, r.deleted_ms, \
    ARRAY(SELECT m.name || '/' || v.version FROM model_versions v JOIN registered_models m USING (model_key) \
      WHERE v.run_id = r.run_id OR v.logged_model_id IN (SELECT l.model_id FROM logged_models l \
      WHERE l.source_run_id = r.run_id) \
      ORDER BY 1 LIMIT 5) AS versions, \
    coalesce((SELECT sum(a.size_bytes) FROM artifacts a, \
      LATERAL (SELECT ltrim(substr(r.artifact_uri, length('mlflow-artifacts:') + 1), '/') AS root) p \
      WHERE r.artifact_uri LIKE 'mlflow-artifacts:%' AND a.path > p.root || '/' AND a.path < p.root || '0' \
        AND NOT EXISTS (SELECT 1 FROM model_version_files f \
        WHERE f.artifact_path = a.path)), 0)::BIGINT AS size_bytes \
    FROM runs r";

/// The next runs of a set that began before `before_ms`, the oldest first, behind `after`; deleted ones too
/// where asked for.
pub(crate) async fn run_candidates(
    db: &mut PgConnection,
    set: RunSet<'_>,
    before_ms: i64,
    deleted: bool,
    after: Option<&(i64, String)>,
    limit: i64,
) -> Result<Vec<RunCandidate>, Error> {
    let (start_ms, run_id) = after.map_or((i64::MIN, ""), |(start_ms, run_id)| (*start_ms, run_id.as_str()));
    // The order is that of an index, read backwards.
    let query = format!(
        "{RUN} WHERE r.experiment_id = $1 AND NOT r.purging AND r.start_ms < $2 AND ($3 \
         OR r.deleted_ms IS NULL) \
           AND (r.start_ms > $4 OR (r.start_ms = $4 AND r.run_id < $5)) \
           AND ($7::TEXT IS NULL OR EXISTS (SELECT 1 FROM run_tags t WHERE t.run_key = r.run_key \
           AND t.key = $7 \
             AND ($8::TEXT IS NULL OR t.value = $8))) \
         ORDER BY r.start_ms, r.run_id DESC LIMIT $6"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(set.experiment_id)
        .bind(before_ms)
        .bind(deleted)
        .bind(start_ms)
        .bind(run_id)
        .bind(limit)
        .bind(set.key())
        .bind(set.value())
        .fetch_all(db)
        .await?)
}

/// The current run, locked until the transaction ends: creating a version of it waits.
pub(crate) async fn run_held(db: &mut PgConnection, run_id: &str) -> Result<Option<RunCandidate>, Error> {
    let query = format!("{RUN} WHERE r.run_id = $1 AND NOT r.purging FOR UPDATE OF r");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(run_id).fetch_optional(db).await?)
}

/// Deletes a run as a client would; it may be restored. `false` where it is deleted already.
pub(crate) async fn run_archive(db: &mut PgConnection, run_id: &str, now_ms: i64) -> Result<bool, Error> {
    let archived = sqlx::query("UPDATE runs SET deleted_ms = $2 WHERE run_id = $1 AND deleted_ms IS NULL")
        .bind(run_id)
        .bind(now_ms)
        .execute(db)
        .await?;
    Ok(archived.rows_affected() == 1)
}

/// A version that a rule looks at.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct VersionCandidate {
    pub(crate) version: i32,
    created_ms: i64,
    stage: String,
    aliases: Vec<String>,
    /// That serve it, or roll it out.
    deployments: Vec<String>,
    /// Bytes that nothing else refers to.
    pub(crate) size_bytes: i64,
}

impl VersionCandidate {
    pub(crate) fn facts(&self, best: &[i32], last: &[i32]) -> Facts {
        let mut holds = Vec::new();
        if !self.aliases.is_empty() {
            holds.push(Hold::Aliased(self.aliases.clone()));
        }
        if !self.deployments.is_empty() {
            holds.push(Hold::Deployed(self.deployments.clone()));
        }
        if matches!(self.stage.as_str(), "Staging" | "Production") {
            holds.push(Hold::Staged(self.stage.clone()));
        }
        Facts {
            ended_ms: self.created_ms,
            gone_already: self.stage == "Archived",
            among_best: best.contains(&self.version),
            among_last: last.contains(&self.version),
            holds,
        }
    }
}

/// The next versions of a model, the oldest first, behind `after`.
pub(crate) async fn version_candidates(
    db: &mut PgConnection,
    model_key: i64,
    after: i32,
    limit: i64,
) -> Result<Vec<VersionCandidate>, Error> {
    Ok(sqlx::query_as(
        "SELECT v.version, v.created_ms, v.stage, \
           ARRAY(SELECT a.alias FROM model_aliases a WHERE a.model_key = v.model_key \
           AND a.version = v.version ORDER BY 1) AS aliases, \
           ARRAY(SELECT d.deployment FROM deployments d WHERE d.model = m.name \
               AND v.version::TEXT IN (d.stable_version, d.candidate_version) \
             UNION SELECT d.deployment FROM deployed_versions d JOIN deployed_tables t USING (deployment) \
               WHERE d.version = v.version::TEXT AND d.digest = v.digest AND (t.model = m.name OR t.model IN \
                 (SELECT f.name FROM former_model_names f WHERE f.model_key = m.model_key)) \
             UNION SELECT h.deployment FROM version_holds h WHERE h.model_key = v.model_key \
             AND h.version = v.version \
               AND h.held_ms > (extract(epoch FROM now()) * 1000)::BIGINT - 60000 \
               ORDER BY 1) AS deployments, \
           coalesce((SELECT sum(f.size_bytes) FROM model_version_files f WHERE f.model_key = v.model_key \
           AND f.version = v.version \
             AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.blob_key = f.blob_key) \
             AND NOT EXISTS (SELECT 1 FROM model_version_files o WHERE o.blob_key = f.blob_key \
               AND (o.model_key, o.version) <> (f.model_key, f.version))), 0)::BIGINT AS size_bytes \
         FROM model_versions v JOIN registered_models m USING (model_key) WHERE v.model_key = $1 \
         AND v.version > $2 ORDER BY v.version LIMIT $3",
    )
    .bind(model_key)
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// The best versions that are not archived; a metric of the logged model goes before one of the run.
pub(crate) async fn versions_best(
    db: &mut PgConnection,
    model_key: i64,
    best: &KeepBest,
) -> Result<Vec<i32>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT version FROM (SELECT v.version, coalesce( \
             (SELECT l.value FROM logged_model_latest_metrics l WHERE l.model_id = v.logged_model_id \
             AND l.key = $2), \
             (SELECT x.value FROM latest_metrics x JOIN runs r USING (run_key) WHERE r.run_id = v.run_id \
             AND x.key = $2)) AS value \
           FROM model_versions v WHERE v.model_key = $1 AND v.stage <> 'Archived') AS scored \
         WHERE value IS NOT NULL AND value <> 'NaN' \
         ORDER BY CASE WHEN $4 THEN value ELSE -value END DESC, version DESC LIMIT $3",
    )
    .bind(model_key)
    .bind(&best.metric)
    .bind(i64::from(best.k))
    .bind(best.goal == Goal::Maximize)
    .fetch_all(db)
    .await?)
}

/// The newest versions that are not archived.
pub(crate) async fn versions_last(db: &mut PgConnection, model_key: i64, k: u32) -> Result<Vec<i32>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT version FROM model_versions WHERE model_key = $1 AND stage <> 'Archived' \
         ORDER BY version DESC LIMIT $2",
    )
    .bind(model_key)
    .bind(i64::from(k))
    .fetch_all(db)
    .await?)
}
