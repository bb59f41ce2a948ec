//! `/mlflow/registered-models`, with their aliases.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::routing::{delete as on_delete, get, patch, post};
use serde_json::{Value, json};
use slipway_domain::registry::filter::Entity;

use super::error::Failure;
use super::message::Message;
use super::model_versions::{body as version_body, number, stage};
use super::prompts::refuse_prompt;
use super::search::Search;
use super::{Answer, Fields, answer, empty};
use crate::access::caller::Caller;
use crate::models::registered_models::{self as models, Detailed, NewModel};
use crate::models::versions::read as versions;
use crate::models::{aliases, removal};
use crate::state::Registry;
use crate::store::model_versions::ModelVersion;

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

/// `RegisteredModel`, with the newest version of each stage.
fn body(detailed: &Detailed) -> Value {
    let Detailed { model, latest } = detailed;
    let aliases =
        model.aliases.0.iter().map(|(alias, version)| json!({"alias": alias, "version": version})).collect();
    Message::new()
        .put("name", model.name.clone())
        .put("creation_timestamp", model.created_ms)
        .put("last_updated_timestamp", model.updated_ms)
        .maybe("description", model.description.clone())
        .list("latest_versions", latest.iter().map(|version| version_body(version).into_value()).collect())
        .pairs("tags", &model.tags.0)
        .list("aliases", aliases)
        .into_value()
}

fn whole(detailed: &Detailed) -> Message {
    Message::new().put("registered_model", body(detailed))
}

async fn create(State(registry): State<Registry>, mut fields: Fields) -> Answer {
    let name = fields.required("name")?;
    let tags = fields.pairs("tags")?;
    for (key, value) in &tags {
        refuse_prompt(key, value)?;
    }
    let new = NewModel { name, description: fields.non_empty("description")?, tags };
    Ok(answer(whole(&models::create(&registry, &new).await?)))
}

async fn by_name(State(registry): State<Registry>, fields: Fields) -> Answer {
    Ok(answer(whole(&models::get(&registry, &fields.required("name")?).await?)))
}

async fn search(State(registry): State<Registry>, caller: Caller, fields: Fields) -> Answer {
    let search = Search::read(Entity::RegisteredModels, &fields, DEFAULT_RESULTS, MAX_RESULTS)?;
    let found = models::search(&registry, &caller, search.conditions(), search.page()?).await?;
    let (found, token) = search.cut(found);
    let found = found.iter().map(body).collect();
    Ok(answer(Message::new().list("registered_models", found).maybe("next_page_token", token)))
}

async fn rename(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, new_name) = (fields.required("name")?, fields.required("new_name")?);
    Ok(answer(whole(&models::rename(&registry, &name, &new_name).await?)))
}

async fn update(State(registry): State<Registry>, fields: Fields) -> Answer {
    let name = fields.required("name")?;
    let description = fields.string("description")?;
    Ok(answer(whole(&models::describe(&registry, &name, description.as_deref()).await?)))
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
        fields.strings("stages")?.iter().map(|asked| stage(asked)).collect::<Result<Vec<_>, Failure>>()?;
    let wanted = |version: &&ModelVersion| stages.is_empty() || stages.contains(&version.stage.as_str());
    let found = versions::latest(&registry, &name).await?;
    let found = found.iter().filter(wanted).map(|version| version_body(version).into_value());
    Ok(answer(Message::new().list("model_versions", found.collect())))
}

async fn set_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, key) = (fields.required("name")?, fields.required("key")?);
    let value = fields.string("value")?.unwrap_or_default();
    refuse_prompt(&key, &value)?;
    models::set_tag(&registry, &name, (key, value)).await?;
    Ok(empty())
}

async fn delete_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, key) = (fields.required("name")?, fields.required("key")?);
    models::delete_tag(&registry, &name, &key).await?;
    Ok(empty())
}

async fn set_alias(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, alias) = (fields.required("name")?, fields.required("alias")?);
    aliases::set(&registry, &name, &alias, number(&fields)?).await?;
    Ok(empty())
}

async fn get_alias(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, alias) = (fields.required("name")?, fields.required("alias")?);
    let version = aliases::get(&registry, &name, &alias).await?;
    Ok(answer(Message::new().put("model_version", version_body(&version))))
}

async fn delete_alias(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (name, alias) = (fields.required("name")?, fields.required("alias")?);
    aliases::delete(&registry, &name, &alias).await?;
    Ok(empty())
}
