//! Use cases of registered models: create, rename, describe, tag, look up, list and search.

use std::collections::HashMap;

use serde_json::json;
use slipway_api::events::ModelRenamed;
use slipway_domain::registry::filter::{Clause, Order};
use slipway_domain::registry::{validate_model_name, validate_registry_tag};
use sqlx::PgConnection;

use super::event_details::with_texts;
use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::model_versions::{self as versions, ModelVersion};
use crate::store::registered_models::{self as table, RegisteredModel};
use crate::store::{Pair, access, deployed};

/// A model to be registered.
#[derive(Debug)]
pub(crate) struct NewModel {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) tags: Vec<Pair>,
}

/// A model with the newest version of each stage.
#[derive(Debug)]
pub(crate) struct Detailed {
    pub(crate) model: RegisteredModel,
    /// By version.
    pub(crate) latest: Vec<ModelVersion>,
}

impl Detailed {
    /// The newest version of all.
    pub(crate) fn newest(&self) -> Option<&ModelVersion> {
        self.latest.iter().max_by_key(|version| version.version)
    }
}

async fn detailed(db: &mut PgConnection, models: Vec<RegisteredModel>) -> Result<Vec<Detailed>, Error> {
    let keys: Vec<i64> = models.iter().map(|model| model.model_key).collect();
    let mut latest: HashMap<i64, Vec<ModelVersion>> = HashMap::new();
    for version in versions::versions_latest(db, &keys).await? {
        latest.entry(version.model_key).or_default().push(version);
    }
    let with_latest = |model: RegisteredModel| {
        let latest = latest.remove(&model.model_key).unwrap_or_default();
        Detailed { model, latest }
    };
    Ok(models.into_iter().map(with_latest).collect())
}

async fn read(db: &mut PgConnection, name: &str) -> Result<Detailed, Error> {
    let model = table::model_get(db, name).await?;
    let latest = versions::versions_latest(db, &[model.model_key]).await?;
    Ok(Detailed { model, latest })
}

/// Registers a model.
///
/// # Errors
/// The name is taken or invalid, a tag is invalid, or Postgres is unreachable.
pub(crate) async fn create(registry: &Registry, new: &NewModel) -> Result<Detailed, Error> {
    let NewModel { name, description, tags } = new;
    validate_model_name("name", name)?;
    for (key, value) in tags {
        validate_registry_tag(key, value)?;
    }
    let mut change = registry.change().await?;
    table::model_create(change.db(), name, description.as_deref(), tags, now_ms()).await?;
    let details = with_texts(json!({}), &[("description", description.as_deref())], tags);
    change.tell("model", "created", name.as_str(), details).await?;
    let created = read(change.db(), name).await?;
    change.commit().await?;
    Ok(created)
}

/// The model of that name.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, name: &str) -> Result<Detailed, Error> {
    read(&mut *registry.pool.acquire().await?, name).await
}

/// A page of the models that the caller may read, which match a filter.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn search(
    registry: &Registry,
    caller: &Caller,
    conditions: (&[Clause], &[Order]),
    page: (i64, i64),
) -> Result<Vec<Detailed>, Error> {
    let mut db = registry.pool.acquire().await?;
    let found = table::model_search(&mut db, &caller.grants.visible_models(), conditions, page).await?;
    detailed(&mut db, found).await
}

/// A page of the models that the caller may read, by name, behind the given one.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Detailed>, Error> {
    let mut db = registry.pool.acquire().await?;
    let found = table::model_list(&mut db, &caller.grants.visible_models(), after, limit).await?;
    detailed(&mut db, found).await
}

/// Renames a model. Its grants move with it, and deployments follow.
///
/// # Errors
/// It does not exist, the new name is taken or invalid, or Postgres is unreachable.
pub(crate) async fn rename(registry: &Registry, name: &str, new_name: &str) -> Result<Detailed, Error> {
    validate_model_name("new_name", new_name)?;
    let mut change = registry.change().await?;
    let now = now_ms();
    let key = table::model_touch(change.db(), name, now).await?;
    table::model_rename(change.db(), key, new_name, now).await?;
    access::model_grants_move(change.db(), name, new_name).await?;
    let revision = deployed::rename_note(change.db(), key, (name, new_name)).await?;
    change.tell("model", "updated", new_name, json!({ "renamed_from": name })).await?;
    let renamed = ModelRenamed {
        model_id: key.to_string(),
        from: name.to_owned(),
        to: new_name.to_owned(),
        name_revision: revision.unsigned_abs(),
    };
    change.publish(&renamed).await?;
    let renamed = read(change.db(), new_name).await?;
    change.commit().await?;
    registry.access.forget();
    Ok(renamed)
}

/// Sets the description, if one is given.
///
/// # Errors
/// The model does not exist, or Postgres is unreachable.
pub(crate) async fn describe(
    registry: &Registry,
    name: &str,
    description: Option<&str>,
) -> Result<Detailed, Error> {
    let mut change = registry.change().await?;
    let key = table::model_touch(change.db(), name, now_ms()).await?;
    if let Some(description) = description {
        table::model_describe(change.db(), key, description).await?;
    }
    change.tell("model", "updated", name, json!({})).await?;
    let updated = read(change.db(), name).await?;
    change.commit().await?;
    Ok(updated)
}

/// Sets a tag.
///
/// # Errors
/// The model does not exist, the tag is invalid, or Postgres is unreachable.
pub(crate) async fn set_tag(registry: &Registry, name: &str, (key, value): Pair) -> Result<(), Error> {
    validate_registry_tag(&key, &value)?;
    let mut change = registry.change().await?;
    let model = table::model_touch(change.db(), name, now_ms()).await?;
    change.tell("model", "updated", name, json!({ "tags": [key] })).await?;
    table::model_tags_set(change.db(), model, &[(key, value)]).await?;
    change.commit().await
}

/// Removes a tag, if there is one.
///
/// # Errors
/// The model does not exist, or Postgres is unreachable.
pub(crate) async fn delete_tag(registry: &Registry, name: &str, key: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let model = table::model_touch(change.db(), name, now_ms()).await?;
    table::model_tag_delete(change.db(), model, key).await?;
    change.tell("model", "updated", name, json!({ "tags": [key] })).await?;
    change.commit().await
}
