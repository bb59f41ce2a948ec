//! May this alias point at that version? The policy of the alias decides, and tells which rule failed and with which numbers.

use serde_json::json;
use slipway_domain::registry::promotion::{Evidence, Outcome, Signing};
use sqlx::PgConnection;

use crate::error::Error;
use crate::state::Registry;
use crate::store::model_versions::ModelVersion;
use crate::store::{model_versions, policies, registered_models, reports};
use crate::versions::signing;

/// People who are read of those that approved a version; more cannot approve it.
const MAX_APPROVALS: i64 = 1_000;

/// Judges a version against the policy of an alias; `None` where nothing guards it.
///
/// # Errors
/// The version is not there, or Postgres is away.
pub(crate) async fn judge(
    db: &mut PgConnection,
    model: &str,
    alias: &str,
    version: i32,
) -> Result<Option<Vec<Outcome>>, Error> {
    let Some(guard) = policies::policy_get(db, model, alias).await? else { return Ok(None) };
    let candidate = model_versions::version_get(db, model, version).await?;
    let candidate = evidence(db, &candidate).await?;
    let current = match registered_models::alias_find(db, model, alias).await? {
        // A version is not held against itself.
        Some(current) if current != version => {
            let current = model_versions::version_get(db, model, current).await?;
            Some(evidence(db, &current).await?)
        }
        _ => None,
    };
    Ok(Some(guard.policy.0.judge(&candidate, current.as_ref())))
}

/// Everything that is known of a version.
///
/// # Errors
/// Postgres is away.
pub(crate) async fn evidence(db: &mut PgConnection, version: &ModelVersion) -> Result<Evidence, Error> {
    let key = (version.model_key, version.version);
    let judged = signing::judge(db, key.0, key.1).await?;
    let newest = reports::reports_newest(db, key.0, key.1).await?;
    let approvals = reports::approvals(db, key, None, MAX_APPROVALS).await?;
    Ok(Evidence {
        signing: Signing {
            keys: judged.valid_keys().map(str::to_owned).collect(),
            detail: judged.verdict.detail.clone(),
        },
        reports: newest.into_iter().map(|one| (one.body.0.name.clone(), one.body.0)).collect(),
        approvers: approvals.into_iter().map(|one| one.approver).collect(),
        ..policies::evidence(db, version).await?
    })
}

/// Tells everybody who listens that a version was refused; the answer for the one who asked.
///
/// # Errors
/// Postgres is away.
pub(crate) async fn refuse(
    registry: &Registry,
    model: &str,
    alias: &str,
    version: i32,
    outcomes: &[Outcome],
) -> Result<Error, Error> {
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
    let details = json!({"model": model, "alias": alias, "version": version.to_string(), "failed": failed});
    let mut change = registry.change().await?;
    change.tell("alias", "refused", format!("{model}@{alias}"), details).await?;
    change.commit().await?;
    let reasons: Vec<&str> = failed.iter().map(|outcome| outcome.detail.as_str()).collect();
    Ok(Error::denied(format!(
        "Version {version} of '{model}' may not become '{alias}': {}",
        reasons.join("; ")
    )))
}
