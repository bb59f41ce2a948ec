//! Use cases of aliases: set, look up and delete.

use serde_json::json;
use slipway_api::events::AliasSet;
use slipway_domain::registry::{validate_alias, validate_alias_name};

use super::promotion;
use crate::clock::now_ms;
use crate::error::{Error, Thing};
use crate::state::Registry;
use crate::store::model_versions::{self as versions, ModelVersion};
use crate::store::registered_models as table;

/// Points an alias at a version, if the policy of the alias allows it. Deployments that follow the alias roll
/// the version out.
///
/// # Errors
/// The alias is invalid, the version does not exist, the policy rejects the version, or Postgres is
/// unreachable.
pub(crate) async fn set(registry: &Registry, name: &str, alias: &str, version: i32) -> Result<(), Error> {
    validate_alias(alias)?;
    let mut change = registry.change().await?;
    // The model's row is locked, so the policy and the alias cannot change between the judgement and the
    // change.
    let target = table::alias_target(change.db(), name, alias, version, now_ms()).await?;
    let target = target.filter(|target| target.exists).ok_or_else(|| versions::absent(name, version))?;
    let outcomes = if target.guarded {
        promotion::judge(change.db(), name, alias, version, &registry.access).await?.unwrap_or_default()
    } else {
        Vec::new()
    };
    if outcomes.iter().any(|outcome| !outcome.passed) {
        drop(change);
        return Err(promotion::refuse(registry, name, alias, version, &outcomes).await?);
    }
    let unchanged = !table::alias_set(change.db(), target.model_key, alias, version).await?;
    // Also where nothing moved: deployments that watch the alias show why no rollout follows.
    let set = AliasSet {
        model: name.to_owned(),
        alias: alias.to_owned(),
        version: version.to_string(),
        unchanged,
        model_id: target.model_key.to_string(),
    };
    change.publish(&set).await?;
    change.commit().await
}

/// The version that an alias points at; of `latest`, the newest one.
///
/// # Errors
/// The alias is invalid or does not exist, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, name: &str, alias: &str) -> Result<ModelVersion, Error> {
    validate_alias_name(alias)?;
    let mut db = registry.pool.acquire().await?;
    if alias.eq_ignore_ascii_case("latest") {
        let model = table::model_get(&mut db, name).await?;
        let newest = versions::versions_latest(&mut db, &[model.model_key]).await?;
        let newest = newest.into_iter().max_by_key(|version| version.version);
        return newest.ok_or_else(|| Error::NotFound(Thing::LatestVersion { model: name.to_owned() }));
    }
    let version = table::alias_get(&mut db, name, alias).await?;
    versions::version_get(&mut db, name, version).await
}

/// Deletes an alias, if there is one.
///
/// # Errors
/// The alias is invalid, the model does not exist, or Postgres is unreachable.
pub(crate) async fn delete(registry: &Registry, name: &str, alias: &str) -> Result<(), Error> {
    validate_alias_name(alias)?;
    let mut change = registry.change().await?;
    let model = table::model_touch(change.db(), name, now_ms()).await?;
    if table::alias_delete(change.db(), model, alias).await? {
        let details = json!({"model": name, "alias": alias});
        change.tell("alias", "deleted", format!("{name}@{alias}"), details).await?;
    }
    change.commit().await
}
