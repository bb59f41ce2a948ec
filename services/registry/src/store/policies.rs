//! Policies that guard aliases, and what is known of a version that wants to pass one.

use std::collections::{BTreeMap, BTreeSet};

use slipway_domain::registry::promotion::{Evidence, Identities, Policy};
use slipway_model_scan::{LoaderCode, Verdict};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::model_versions::ModelVersion;
use super::tags::REVISION_TAG;
use crate::error::Error;
use crate::store::facts::Scan;

/// A policy and the alias that it guards.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct AliasPolicy {
    pub(crate) alias: String,
    pub(crate) policy: Json<Policy>,
    pub(crate) updated_ms: i64,
}

/// All policies of a model, by alias.
pub(crate) async fn policies(db: &mut PgConnection, model: &str) -> Result<Vec<AliasPolicy>, Error> {
    Ok(sqlx::query_as(
        "SELECT p.alias, p.policy, p.updated_ms FROM alias_policies p JOIN registered_models m \
         USING (model_key) \
         WHERE m.name = $1 ORDER BY p.alias",
    )
    .bind(model)
    .fetch_all(db)
    .await?)
}

/// The policy that guards an alias.
pub(crate) async fn policy_get(
    db: &mut PgConnection,
    model: &str,
    alias: &str,
) -> Result<Option<AliasPolicy>, Error> {
    Ok(sqlx::query_as(
        "SELECT p.alias, p.policy, p.updated_ms FROM alias_policies p JOIN registered_models m \
         USING (model_key) \
         WHERE m.name = $1 AND p.alias = $2",
    )
    .bind(model)
    .bind(alias)
    .fetch_optional(db)
    .await?)
}

/// Guards an alias, in place of the policy before.
pub(crate) async fn policy_put(
    db: &mut PgConnection,
    model_key: i64,
    alias: &str,
    policy: &Policy,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO alias_policies (model_key, alias, policy, updated_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (model_key, alias) DO UPDATE \
         SET policy = excluded.policy, updated_ms = excluded.updated_ms",
    )
    .bind(model_key)
    .bind(alias)
    .bind(Json(policy))
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Takes the guard away; `false` where there was none.
pub(crate) async fn policy_delete(db: &mut PgConnection, model_key: i64, alias: &str) -> Result<bool, Error> {
    let removed = sqlx::query("DELETE FROM alias_policies WHERE model_key = $1 AND alias = $2")
        .bind(model_key)
        .bind(alias)
        .execute(db)
        .await?;
    Ok(removed.rows_affected() == 1)
}

/// What the version's own rows and those of its run say of it. Metrics are those of its run; where its logged
/// model has one of the same name, that one. `run_id` is the version's run where it may be read, and
/// `authenticated` whether access control is on.
pub(crate) async fn evidence(
    db: &mut PgConnection,
    version: &ModelVersion,
    run_id: Option<&str>,
    authenticated: bool,
) -> Result<Evidence, Error> {
    let metrics: Vec<(String, f64)> = sqlx::query_as(
        "SELECT x.key, x.value FROM latest_metrics x JOIN runs r USING (run_key) WHERE r.run_id = $1 \
           AND NOT EXISTS (SELECT 1 FROM logged_model_metrics l WHERE l.model_id = $2 AND l.key = x.key) \
         UNION ALL SELECT key, value FROM logged_model_latest_metrics WHERE model_id = $2",
    )
    .bind(run_id)
    .bind(&version.logged_model_id)
    .fetch_all(&mut *db)
    .await?;
    let datasets: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM run_datasets i JOIN runs r USING (run_key) WHERE r.run_id = $1",
    )
    .bind(run_id)
    .fetch_one(&mut *db)
    .await?;
    let code_revision: Option<String> = sqlx::query_scalar(
        "SELECT t.value FROM run_tags t JOIN runs r USING (run_key) WHERE r.run_id = $1 AND t.key = $2",
    )
    .bind(run_id)
    .bind(REVISION_TAG)
    .fetch_optional(&mut *db)
    .await?;
    let (authors, identities) = authors(db, version, run_id, authenticated).await?;
    let facts = &version.facts.0;
    Ok(Evidence {
        unservable_reason: facts.unservable_reason.clone(),
        scanned_safe: facts.scan.as_ref().map(|scan| scan.verdict == Verdict::Safe),
        unsafe_reason: facts.scan.as_ref().and_then(Scan::reason),
        without_code: facts.scan.as_ref().map(|scan| scan.code == LoaderCode::None),
        has_signature: facts.signature.is_some(),
        knows_inputs: facts.signature.is_some() || !facts.inputs.is_empty(),
        has_description: version.description.as_deref().is_some_and(|text| !text.trim().is_empty()),
        run_id: run_id.map(str::to_owned),
        datasets: datasets.unsigned_abs(),
        tags: version.tags.0.iter().cloned().collect::<BTreeMap<_, _>>(),
        metrics: metrics.into_iter().collect(),
        code_revision,
        authors,
        identities,
        ..Evidence::default()
    })
}

/// Who made a version: the principals that created it, its run and its logged model, and the user that the
/// run's client named.
async fn authors(
    db: &mut PgConnection,
    version: &ModelVersion,
    run_id: Option<&str>,
    authenticated: bool,
) -> Result<(BTreeSet<String>, Identities), Error> {
    let created: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT 'version', v.created_by, NULL FROM model_versions v WHERE v.model_key = $1 \
         AND v.version = $2 \
         UNION ALL SELECT 'run', r.created_by, r.user_id FROM runs r WHERE r.run_id = $3 \
         UNION ALL SELECT 'logged model', l.created_by, NULL FROM logged_models l WHERE l.model_id = $4",
    )
    .bind(version.model_key)
    .bind(version.version)
    .bind(run_id)
    .bind(&version.logged_model_id)
    .fetch_all(db)
    .await?;
    let missing = created.iter().find(|(_, principal, _)| principal.is_none());
    let identities = match missing {
        _ if !authenticated => Identities::Claimed,
        // Who made a run that may not be read stays unknown.
        _ if run_id != version.run_id.as_deref() => Identities::Missing("run".to_owned()),
        Some((what, _, _)) => Identities::Missing(what.clone()),
        None => Identities::Authenticated,
    };
    let names = created.into_iter().flat_map(|(_, principal, claimed)| [principal, claimed]);
    Ok((names.flatten().filter(|name| !name.is_empty()).collect(), identities))
}
