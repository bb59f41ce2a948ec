//! API tokens and grants; and to which experiment or model a thing belongs.

use std::collections::HashMap;

use slipway_domain::access::{Grants, Role, Scope};
use sqlx::PgConnection;

use crate::error::Error;

/// Grants of one caller, through all its groups.
const MAX_GRANTS: i64 = 10_000;
/// The time of a token's last use is exact to this.
const USE_PRECISION_MS: i64 = 60_000;
const MAX_OWNERS: i64 = 100;

/// What a presented token is held against.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct TokenSecret {
    pub(crate) principal: String,
    pub(crate) secret_sha256: Vec<u8>,
    pub(crate) expires_ms: Option<i64>,
}

/// A token as people see it.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Token {
    pub(crate) token_id: String,
    pub(crate) name: String,
    pub(crate) principal: String,
    pub(crate) created_ms: i64,
    pub(crate) created_by: String,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) last_used_ms: Option<i64>,
}

/// A role of a principal in a scope.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Grant {
    pub(crate) subject: String,
    pub(crate) scope: String,
    pub(crate) role: String,
    pub(crate) granted_ms: i64,
    pub(crate) granted_by: String,
}

/// The stored half of a token.
pub(crate) async fn token_secret(
    db: &mut PgConnection,
    token_id: &str,
) -> Result<Option<TokenSecret>, Error> {
    Ok(sqlx::query_as("SELECT principal, secret_sha256, expires_ms FROM api_tokens WHERE token_id = $1")
        .bind(token_id)
        .fetch_optional(db)
        .await?)
}

/// A token that is accepted now.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ValidToken {
    pub(crate) token_id: String,
    pub(crate) principal: String,
    pub(crate) secret_sha256: Vec<u8>,
    pub(crate) expires_ms: Option<i64>,
}

/// All tokens that have not expired.
pub(crate) async fn tokens_valid(db: &mut PgConnection, now_ms: i64) -> Result<Vec<ValidToken>, Error> {
    Ok(sqlx::query_as(
        "SELECT token_id, principal, secret_sha256, expires_ms FROM api_tokens \
         WHERE expires_ms IS NULL OR expires_ms > $1 ORDER BY token_id",
    )
    .bind(now_ms)
    .fetch_all(db)
    .await?)
}

/// All grants as subject, scope and role, in order of their subjects.
pub(crate) async fn grants_all(db: &mut PgConnection) -> Result<Vec<(String, String, String)>, Error> {
    Ok(sqlx::query_as("SELECT subject, scope, role FROM grants ORDER BY subject, scope")
        .fetch_all(db)
        .await?)
}

/// Notes that a token was used.
pub(crate) async fn token_used(db: &mut PgConnection, token_id: &str, now_ms: i64) -> Result<(), Error> {
    sqlx::query(
        "UPDATE api_tokens SET last_used_ms = $2 WHERE token_id = $1 AND (last_used_ms IS NULL \
         OR last_used_ms < $3)",
    )
    .bind(token_id)
    .bind(now_ms)
    .bind(now_ms - USE_PRECISION_MS)
    .execute(db)
    .await?;
    Ok(())
}

/// Keeps a new token.
pub(crate) async fn token_create(
    db: &mut PgConnection,
    token: &Token,
    secret_sha256: &[u8; 32],
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO api_tokens (token_id, name, principal, secret_sha256, created_ms, created_by, \
         expires_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&token.token_id)
    .bind(&token.name)
    .bind(&token.principal)
    .bind(&secret_sha256[..])
    .bind(token.created_ms)
    .bind(&token.created_by)
    .bind(token.expires_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// A page of tokens, the newest first, behind the given one.
pub(crate) async fn token_list(
    db: &mut PgConnection,
    after: Option<(i64, String)>,
    limit: i64,
) -> Result<Vec<Token>, Error> {
    let (after_ms, after_id) = after.unzip();
    Ok(sqlx::query_as(
        "SELECT token_id, name, principal, created_ms, created_by, expires_ms, last_used_ms FROM api_tokens \
         WHERE $1::BIGINT IS NULL OR (created_ms, token_id) < ($1, $2) \
         ORDER BY created_ms DESC, token_id DESC LIMIT $3",
    )
    .bind(after_ms)
    .bind(after_id)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Revokes a token; its name and principal, or nothing where there is none.
pub(crate) async fn token_delete(
    db: &mut PgConnection,
    token_id: &str,
) -> Result<Option<(String, String)>, Error> {
    Ok(sqlx::query_as("DELETE FROM api_tokens WHERE token_id = $1 RETURNING name, principal")
        .bind(token_id)
        .fetch_optional(db)
        .await?)
}

/// Revokes all tokens of a principal; their ids.
pub(crate) async fn tokens_of_principal_delete(
    db: &mut PgConnection,
    principal: &str,
) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar("DELETE FROM api_tokens WHERE principal = $1 RETURNING token_id")
        .bind(principal)
        .fetch_all(db)
        .await?)
}

/// What was granted to any of these subjects.
pub(crate) async fn grants_of(db: &mut PgConnection, subjects: &[String]) -> Result<Grants, Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT scope, role FROM grants WHERE subject = ANY($1) ORDER BY subject, scope LIMIT $2",
    )
    .bind(subjects)
    .bind(MAX_GRANTS)
    .fetch_all(db)
    .await?;
    // A row that does not read grants nothing.
    Ok(rows
        .iter()
        .filter_map(|(scope, role)| Some((scope.parse::<Scope>().ok()?, role.parse::<Role>().ok()?)))
        .collect())
}

/// A page of grants in order of subject and scope, of one subject where given.
pub(crate) async fn grant_list(
    db: &mut PgConnection,
    subject: Option<&str>,
    after: Option<(String, String)>,
    limit: i64,
) -> Result<Vec<Grant>, Error> {
    let (after_subject, after_scope) = after.unzip();
    Ok(sqlx::query_as(
        "SELECT subject, scope, role, granted_ms, granted_by FROM grants WHERE ($1::TEXT IS NULL \
         OR subject = $1) \
         AND ($2::TEXT IS NULL OR (subject, scope) > ($2, $3)) ORDER BY subject, scope LIMIT $4",
    )
    .bind(subject)
    .bind(after_subject)
    .bind(after_scope)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Sets a grant; the role that was there before.
pub(crate) async fn grant_put(db: &mut PgConnection, grant: &Grant) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar(
        "WITH old AS (SELECT role FROM grants WHERE subject = $1 AND scope = $2 FOR UPDATE) \
         INSERT INTO grants (subject, scope, role, granted_ms, granted_by) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (subject, scope) DO UPDATE SET role = excluded.role, granted_ms = excluded.granted_ms, \
           granted_by = excluded.granted_by RETURNING (SELECT role FROM old)",
    )
    .bind(&grant.subject)
    .bind(&grant.scope)
    .bind(&grant.role)
    .bind(grant.granted_ms)
    .bind(&grant.granted_by)
    .fetch_one(db)
    .await?)
}

/// Takes a grant away; the role, or nothing where there was none.
pub(crate) async fn grant_delete(
    db: &mut PgConnection,
    subject: &str,
    scope: &str,
) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar("DELETE FROM grants WHERE subject = $1 AND scope = $2 RETURNING role")
        .bind(subject)
        .bind(scope)
        .fetch_optional(db)
        .await?)
}

/// Grants on a model follow it to its new name, where the subject has none there already.
pub(crate) async fn model_grants_move(db: &mut PgConnection, name: &str, new: &str) -> Result<(), Error> {
    let (old, new) = (Scope::Model(name.to_owned()).to_string(), Scope::Model(new.to_owned()).to_string());
    sqlx::query(
        "UPDATE grants g SET scope = $2 WHERE scope = $1 \
         AND NOT EXISTS (SELECT 1 FROM grants o WHERE o.subject = g.subject AND o.scope = $2)",
    )
    .bind(&old)
    .bind(new)
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM grants WHERE scope = $1").bind(old).execute(db).await?;
    Ok(())
}

/// Grants on a model end with it: a later model of the same name starts without grants.
pub(crate) async fn model_grants_remove(db: &mut PgConnection, name: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM grants WHERE scope = $1")
        .bind(Scope::Model(name.to_owned()).to_string())
        .execute(db)
        .await?;
    Ok(())
}

/// The experiments of those runs that exist.
pub(crate) async fn run_experiments(
    db: &mut PgConnection,
    run_ids: &[String],
) -> Result<HashMap<String, i64>, Error> {
    let found: Vec<(String, i64)> =
        sqlx::query_as("SELECT run_id, experiment_id FROM runs WHERE run_id = ANY($1)")
            .bind(run_ids)
            .fetch_all(db)
            .await?;
    Ok(found.into_iter().collect())
}

/// The experiments of logged models; everything for one that is not there.
pub(crate) async fn logged_model_experiments(
    db: &mut PgConnection,
    model_ids: &[String],
) -> Result<Vec<Scope>, Error> {
    let found: Vec<Option<i64>> = sqlx::query_scalar(
        "SELECT DISTINCT l.experiment_id FROM UNNEST($1::TEXT[]) AS g (id) LEFT JOIN logged_models l \
         ON l.model_id = g.id",
    )
    .bind(model_ids)
    .fetch_all(db)
    .await?;
    Ok(found.into_iter().map(|id| id.map_or(Scope::Everything, Scope::Experiment)).collect())
}

/// Whether there is an experiment of that number, which is then kept from being purged until the transaction
/// ends.
pub(crate) async fn experiment_hold(db: &mut PgConnection, id: i64) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar("SELECT experiment_id FROM experiments WHERE experiment_id = $1 FOR KEY SHARE")
        .bind(id)
        .fetch_optional(db)
        .await?)
}

/// The experiment of that name.
pub(crate) async fn experiment_of_name(db: &mut PgConnection, name: &str) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar("SELECT experiment_id FROM experiments WHERE name = $1")
        .bind(name)
        .fetch_optional(db)
        .await?)
}

/// The experiments that keep their artifacts at any of these locations.
pub(crate) async fn experiments_at(db: &mut PgConnection, locations: &[String]) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar("SELECT experiment_id FROM experiments WHERE artifact_location = ANY($1)")
        .bind(locations)
        .fetch_all(db)
        .await?)
}

/// Registered models with a version that pins this file.
pub(crate) async fn models_pinning(db: &mut PgConnection, path: &str) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT m.name FROM model_version_files f JOIN registered_models m USING (model_key) \
         WHERE f.artifact_path = $1 LIMIT $2",
    )
    .bind(path)
    .bind(MAX_OWNERS)
    .fetch_all(db)
    .await?)
}

/// Registered models with a version whose files lie in one of these directories.
pub(crate) async fn models_rooted(db: &mut PgConnection, directories: &[&str]) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT m.name FROM model_versions v JOIN registered_models m USING (model_key) \
         WHERE v.artifact_root = ANY($1) LIMIT $2",
    )
    .bind(directories)
    .bind(MAX_OWNERS)
    .fetch_all(db)
    .await?)
}
