//! `/mlflow/registered-models`, with their aliases.

use std::collections::HashMap;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::routing::{delete as on_delete, get, patch, post};
use serde_json::{Value, json};
use slipway_api::events::{AliasSet, ModelRenamed};
use slipway_domain::registry::filter::Entity;
use slipway_domain::registry::webhook::mlflow::with_texts;
use slipway_domain::registry::{
    validate_alias, validate_alias_name, validate_model_name, validate_registry_tag,
};
use sqlx::PgConnection;

use super::message::Message;
use super::model_versions::{body as version_body, number, stage};
use super::prompts::refuse_prompt;
use super::search::Search;
use super::{Answer, Fields, answer, empty, now_ms};
use crate::access::caller::Caller;
use crate::error::Error;
use crate::models::{promotion, removal};
use crate::state::Registry;
use crate::store::model_versions::{self as versions, ModelVersion};
use crate::store::registered_models::{self as table, RegisteredModel};
use crate::store::{access, deployed};

const DEFAULT_RESULTS: usize = 100;
const MAX_RESULTS: usize = 1_000;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let path = |name: &str| format!("{prefix}/2.0/mlflow/registered-models/{name}");
    Router::new()
        .route(&path("create"), post(create))
        .route(&path("get"), get(by_name))
        .route(&path("search"), get(search).post(search))
        .route(&path("rename"), post(rename))
        .route(&path("update"), patch(update))
        .route(&path("delete"), on_delete(delete))
        .route(&path("get-latest-versions"), get(latest_versions).post(latest_versions))
        .route(&path("set-tag"), post(set_tag))
        .route(&path("delete-tag"), on_delete(delete_tag))
        .route(&path("alias"), get(get_alias).post(set_alias).delete(delete_alias))
}

/// `RegisteredModel`s with the newest version of each stage.
async fn bodies(db: &mut PgConnection, models: &[RegisteredModel]) -> Result<Vec<Value>, Error> {
    let keys: Vec<i64> = models.iter().map(|model| model.model_key).collect();
    let mut latest: HashMap<i64, Vec<Value>> = HashMap::new();
    for version in versions::versions_latest(db, &keys).await? {
        latest.entry(version.model_key).or_default().push(version_body(&version).into_value());
    }
    Ok(models.iter().map(|model| body(model, latest.remove(&model.model_key).unwrap_or_default())).collect())
}

fn body(model: &RegisteredModel, latest: Vec<Value>) -> Value {
    let aliases =
        model.aliases.0.iter().map(|(alias, version)| json!({"alias": alias, "version": version})).collect();
    Message::new()
        .put("name", model.name.clone())
        .put("creation_timestamp", model.created_ms)
        .put("last_updated_timestamp", model.updated_ms)
        .maybe("description", model.description.clone())
        .list("latest_versions", latest)
        .pairs("tags", &model.tags.0)
        .list("aliases", aliases)
        .into_value()
}

async fn whole(db: &mut PgConnection, name: &str) -> Result<Message, Error> {
    let model = table::model_get(db, name).await?;
    let body = bodies(db, std::slice::from_ref(&model)).await?.pop().unwrap_or_default();
    Ok(Message::new().put("registered_model", body))
}

async fn create(State(registry): State<Registry>, mut fields: Fields) -> Answer {
    let name = fields.required("name")?;
    validate_model_name("name", &name)?;
    let tags = fields.pairs("tags")?;
    for (key, value) in &tags {
        validate_registry_tag(key, value)?;
        refuse_prompt(key, value)?;
    }
    let description = fields.non_empty("description")?;
    let mut change = registry.change().await?;
    table::model_create(change.db(), &name, description.as_deref(), &tags, now_ms()).await?;
    let details = with_texts(json!({}), &[("description", description.as_deref())], &tags);
    change.tell("model", "created", name.as_str(), details).await?;
    let made = whole(change.db(), &name).await?;
    change.commit().await?;
    Ok(answer(made))
}

async fn by_name(State(registry): State<Registry>, fields: Fields) -> Answer {
    let name = fields.required("name")?;
    let mut db = registry.pool.acquire().await?;
    Ok(answer(whole(&mut db, &name).await?))
}

async fn search(State(registry): State<Registry>, caller: Caller, fields: Fields) -> Answer {
    let search = Search::read(Entity::RegisteredModels, &fields, DEFAULT_RESULTS, MAX_RESULTS)?;
    let mut db = registry.pool.acquire().await?;
    let visible = caller.grants.visible_models();
    let found = table::model_search(&mut db, &visible, search.conditions(), search.page()?).await?;
    let (found, token) = search.cut(found);
    let found = bodies(&mut db, &found).await?;
    Ok(answer(Message::new().list("registered_models", found).maybe("next_page_token", token)))
}

async fn rename(State(registry): State<Registry>, fields: Fields) -> Answer {
    let name = fields.required("name")?;
    let new_name = fields.required("new_name")?;
    validate_model_name("new_name", &new_name)?;
    let mut change = registry.change().await?;
    let now = now_ms();
    let key = table::model_touch(change.db(), &name, now).await?;
    table::model_rename(change.db(), key, &new_name, now).await?;
    access::model_grants_move(change.db(), &name, &new_name).await?;
    let revision = deployed::rename_note(change.db(), key, (&name, &new_name)).await?;
    change.tell("model", "updated", new_name.as_str(), json!({ "renamed_from": name })).await?;
    let renamed = ModelRenamed {
        model_id: key.to_string(),
        from: name,
        to: new_name.clone(),
        name_revision: revision.unsigned_abs(),
    };
    change.publish(&renamed).await?;
    let renamed = whole(change.db(), &new_name).await?;
    change.commit().await?;
    registry.access.forget();
    Ok(answer(renamed))
}

async fn update(State(registry): State<Registry>, fields: Fields) -> Answer {
    let name = fields.required("name")?;
    let description = fields.string("description")?;
    let mut change = registry.change().await?;
    let key = table::model_touch(change.db(), &name, now_ms()).await?;
    if let Some(description) = description {
        table::model_describe(change.db(), key, &description).await?;
    }
    change.tell("model", "updated", name.as_str(), json!({})).await?;
    let updated = whole(change.db(), &name).await?;
    change.commit().await?;
    Ok(answer(updated))
}

async fn delete(
    State(registry): State<Registry>,
    caller: Caller,
    RawQuery(query): RawQuery,
    fields: Fields,
) -> Answer {
    let name = fields.required("name")?;
    let force = fields.is_forced(query.as_deref())?;
    removal::model(&registry, &caller, &name, force).await?;
    Ok(empty())
}

async fn latest_versions(State(registry): State<Registry>, fields: Fields) -> Answer {
    let name = fields.required("name")?;
    let stages =
        fields.strings("stages")?.iter().map(|asked| stage(asked)).collect::<Result<Vec<_>, Error>>()?;
    let mut db = registry.pool.acquire().await?;
    let model = table::model_get(&mut db, &name).await?;
    let wanted = |version: &ModelVersion| stages.is_empty() || stages.contains(&version.stage.as_str());
    let found = versions::versions_latest(&mut db, &[model.model_key]).await?;
    let found =
        found.iter().filter(|version| wanted(version)).map(|version| version_body(version).into_value());
    Ok(answer(Message::new().list("model_versions", found.collect())))
}

async fn set_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, key) = (fields.required("name")?, fields.required("key")?);
    let value = fields.string("value")?.unwrap_or_default();
    validate_registry_tag(&key, &value)?;
    refuse_prompt(&key, &value)?;
    let mut change = registry.change().await?;
    let model = table::model_touch(change.db(), &name, now_ms()).await?;
    change.tell("model", "updated", name, json!({ "tags": [key] })).await?;
    table::model_tags_set(change.db(), model, &[(key, value)]).await?;
    change.commit().await?;
    Ok(empty())
}

async fn delete_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, key) = (fields.required("name")?, fields.required("key")?);
    let mut change = registry.change().await?;
    let model = table::model_touch(change.db(), &name, now_ms()).await?;
    table::model_tag_delete(change.db(), model, &key).await?;
    change.tell("model", "updated", name, json!({ "tags": [key] })).await?;
    change.commit().await?;
    Ok(empty())
}

async fn set_alias(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, alias) = (fields.required("name")?, fields.required("alias")?);
    validate_alias(&alias)?;
    let version = number(&fields)?;
    let mut change = registry.change().await?;
    // The model's row is held, so nobody changes the policy or the alias between the judgement and the change.
    let target = table::alias_target(change.db(), &name, &alias, version, now_ms()).await?;
    let target = target.filter(|target| target.exists).ok_or_else(|| versions::absent(&name, version))?;
    let outcomes = if target.guarded {
        promotion::judge(change.db(), &name, &alias, version, &registry.access).await?.unwrap_or_default()
    } else {
        Vec::new()
    };
    if outcomes.iter().any(|outcome| !outcome.passed) {
        drop(change);
        return Err(promotion::refuse(&registry, &name, &alias, version, &outcomes).await?);
    }
    let unchanged = !table::alias_set(change.db(), target.model_key, &alias, version).await?;
    // Also where nothing moved: deployments that watch the alias show why no rollout follows.
    let model_id = target.model_key.to_string();
    let set = AliasSet { model: name, alias, version: version.to_string(), unchanged, model_id };
    change.publish(&set).await?;
    change.commit().await?;
    Ok(empty())
}

async fn get_alias(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, alias) = (fields.required("name")?, fields.required("alias")?);
    validate_alias_name(&alias)?;
    let mut db = registry.pool.acquire().await?;
    let version = if alias.eq_ignore_ascii_case("latest") {
        let model = table::model_get(&mut db, &name).await?;
        let newest = versions::versions_latest(&mut db, &[model.model_key]).await?;
        newest
            .into_iter()
            .max_by_key(|version| version.version)
            .ok_or_else(|| Error::not_found(format!("Latest version not found for model {name}.")))?
    } else {
        let version = table::alias_get(&mut db, &name, &alias).await?;
        versions::version_get(&mut db, &name, version).await?
    };
    Ok(answer(Message::new().put("model_version", version_body(&version))))
}

async fn delete_alias(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, alias) = (fields.required("name")?, fields.required("alias")?);
    validate_alias_name(&alias)?;
    let mut change = registry.change().await?;
    let model = table::model_touch(change.db(), &name, now_ms()).await?;
    if table::alias_delete(change.db(), model, &alias).await? {
        change
            .tell("alias", "deleted", format!("{name}@{alias}"), json!({"model": name, "alias": alias}))
            .await?;
    }
    change.commit().await?;
    Ok(empty())
}
