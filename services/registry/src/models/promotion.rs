//! May this alias point at that version? The policy of the alias decides, and tells which rule failed and
//! with which numbers.

use serde_json::json;
use slipway_domain::registry::promotion::Outcome;
use sqlx::PgConnection;

use crate::access::authenticator::Access;
use crate::error::Error;
use crate::models::lineage::Known;
use crate::state::Registry;
use crate::store::{model_versions, policies, registered_models};

/// Judges a version against the policy of an alias; `None` where nothing guards it. The judgement is the same
/// for every caller: a run counts where the version's link to it was authorised.
///
/// # Errors
/// The version is not there, or Postgres is unreachable.
pub(crate) async fn judge(
    db: &mut PgConnection,
    model: &str,
    alias: &str,
    version: i32,
    access: &Access,
) -> Result<Option<Vec<Outcome>>, Error> {
    let Some(guard) = policies::policy_get(db, model, alias).await? else { return Ok(None) };
    let candidate = model_versions::version_get(db, model, version).await?;
    let candidate = Known::read(db, &candidate, access.any_reader()).await?.evidence;
    let current = match registered_models::alias_find(db, model, alias).await? {
        // A version is not held against itself.
        Some(current) if current != version => {
            let current = model_versions::version_get(db, model, current).await?;
            Some(Known::read(db, &current, access.any_reader()).await?.evidence)
        }
        _ => None,
    };
    Ok(Some(guard.policy.0.judge(&candidate, current.as_ref())))
}

/// Publishes that a version was rejected; returns the error for the caller.
///
/// # Errors
/// Postgres is unreachable.
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
    Ok(Error::Denied(format!(
        "Version {version} of '{model}' may not become '{alias}': {}",
        reasons.join("; ")
    )))
}
