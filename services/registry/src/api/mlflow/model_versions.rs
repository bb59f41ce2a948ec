//! `/mlflow/model-versions`.

use axum::extract::{RawQuery, State};
use axum::routing::{delete as on_delete, get, patch, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use slipway_domain::registry::filter::Entity;
use slipway_domain::registry::{validate_model_name, validate_registry_tag, validate_version};

use super::error::Failure;
use super::message::Message;
use super::prompts::refuse_prompt;
use super::search::Search;
use super::{Answer, Fields, answer, empty};
use crate::access::caller::Caller;
use crate::models::removal;
use crate::models::versions::create::{self as versions, Request};
use crate::models::versions::profile::PROFILE_PATH;
use crate::models::versions::{change, read};
use crate::state::Registry;
use crate::store::model_versions::{ModelVersion, VersionName};

const DEFAULT_RESULTS: usize = 10_000;
const MAX_RESULTS: usize = 200_000;
/// Longer warnings are cut there.
const MAX_WARNING_CHARS: usize = 1_000;
const STAGES: [&str; 4] = ["None", "Staging", "Production", "Archived"];

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let path = |name: &str| format!("{prefix}/2.0/mlflow/model-versions/{name}");
    Router::new()
        .route(&path("create"), post(create))
        .route(&path("get"), get(by_number))
        .route(&path("search"), get(search).post(search))
        .route(&path("update"), patch(update))
        .route(&path("transition-stage"), post(transition))
        .route(&path("delete"), on_delete(delete))
        .route(&path("get-download-uri"), get(download_uri))
        .route(&path("set-tag"), post(set_tag))
        .route(&path("delete-tag"), on_delete(delete_tag))
}

/// `ModelVersion`.
pub(super) fn body(version: &ModelVersion) -> Message {
    let aliases = version.aliases.iter().cloned().map(Into::into).collect();
    Message::new()
        .put("name", version.name.clone())
        .put("version", version.version.to_string())
        .put("creation_timestamp", version.created_ms)
        .put("last_updated_timestamp", version.updated_ms)
        .put("current_stage", version.stage.clone())
        .put("description", version.description.clone().unwrap_or_default())
        .put("source", version.source.clone())
        .put("run_id", version.run_id.clone().unwrap_or_default())
        .put("status", version.status.clone())
        .maybe("status_message", status_message(version))
        .put("run_link", version.run_link.clone().unwrap_or_default())
        .maybe("model_id", version.logged_model_id.clone())
        .pairs("tags", &version.tags.0)
        .list("aliases", aliases)
}

/// The field `version`.
pub(super) fn number(fields: &Fields) -> Result<i32, Failure> {
    Ok(validate_version(&fields.required("version")?)?)
}

fn first_or_later(fields: &Fields) -> Result<i32, Failure> {
    match number(fields)? {
        number if number > 0 => Ok(number),
        number => Err(Failure::invalid(format!(
            "Invalid value \"{number}\" for parameter 'version' supplied: the first version is 1"
        ))),
    }
}

/// A stage by its name, in any case.
pub(super) fn stage(asked: &str) -> Result<&'static str, Failure> {
    STAGES.iter().find(|known| known.eq_ignore_ascii_case(asked)).copied().ok_or_else(|| {
        Failure::invalid(format!(
            "Invalid Model Version stage: {asked}. Value must be one of {}.",
            STAGES.join(", ")
        ))
    })
}

async fn create(
    State(registry): State<Registry>,
    caller: Caller,
    mut fields: Fields,
) -> Result<(HeaderMap, Json<Value>), Failure> {
    let tags = fields.pairs("tags")?;
    for (key, value) in &tags {
        validate_registry_tag(key, value)?;
        refuse_prompt(key, value)?;
    }
    let name = fields.required("name")?;
    validate_model_name("name", &name)?;
    let request = Request {
        name,
        source: fields.required("source")?,
        run_id: fields.non_empty("run_id")?,
        model_id: fields.non_empty("model_id")?,
        run_link: fields.non_empty("run_link")?,
        description: fields.non_empty("description")?,
        tags,
        // Not in MLflow: an import keeps the numbers that clients know, gaps and all.
        version: fields.non_empty("version")?.map(|_| first_or_later(&fields)).transpose()?,
    };
    let made = versions::create(&registry, &caller, &request).await?;
    let mut headers = HeaderMap::new();
    if let Some(warning) = status_message(&made).as_deref().and_then(warning) {
        headers.insert(header::WARNING, warning);
    }
    Ok((headers, answer(Message::new().put("model_version", body(&made)))))
}

/// What is to be said of a version beyond its status: why serving cannot load it, and what drift monitoring
/// cannot compare.
fn status_message(version: &ModelVersion) -> Option<String> {
    let facts = &version.facts.0;
    let unservable =
        facts.unservable_reason.as_ref().map(|reason| format!("Slipway cannot serve it: {reason}"));
    let misfit = facts.profile_misfit.as_ref().map(|why| {
        format!(
            "the training profile {PROFILE_PATH} of its run does not fit it, so drift is not monitored \
            as it should be: {why}"
        )
    });
    let said: Vec<String> = unservable.into_iter().chain(misfit).collect();
    (!said.is_empty()).then(|| format!("registered, but {}", said.join("; and ")))
}

/// The header `Warning` (RFC 7234, section 5.5): code 299, miscellaneous and persistent. Printable ASCII
/// only.
fn warning(text: &str) -> Option<HeaderValue> {
    let plain = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    let text: String = text.chars().take(MAX_WARNING_CHARS).map(plain).collect();
    HeaderValue::from_str(&format!("299 slipway \"{}\"", text.replace('\\', "/").replace('"', "'"))).ok()
}

/// The version that a request names.
fn named(fields: &Fields) -> Result<(String, i32), Failure> {
    Ok((fields.required("name")?, number(fields)?))
}

fn whole(version: &ModelVersion) -> Message {
    Message::new().put("model_version", body(version))
}

async fn by_number(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (model, version) = named(&fields)?;
    let found = read::get(&registry, VersionName { model: &model, version }).await?;
    Ok(answer(whole(&found)))
}

async fn search(State(registry): State<Registry>, caller: Caller, fields: Fields) -> Answer {
    let search = Search::read(Entity::ModelVersions, &fields, DEFAULT_RESULTS, MAX_RESULTS)?;
    let found = read::search(&registry, &caller, search.conditions(), search.page()?).await?;
    let (found, token) = search.cut(found);
    let found = found.iter().map(|version| body(version).into_value()).collect();
    Ok(answer(Message::new().list("model_versions", found).maybe("next_page_token", token)))
}

async fn download_uri(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (model, version) = named(&fields)?;
    let found = read::get(&registry, VersionName { model: &model, version }).await?;
    Ok(answer(json!({ "artifact_uri": found.download_uri })))
}

async fn update(State(registry): State<Registry>, fields: Fields) -> Answer {
    let description = fields.string("description")?;
    let (model, version) = named(&fields)?;
    let name = VersionName { model: &model, version };
    Ok(answer(whole(&change::describe(&registry, name, description.as_deref()).await?)))
}

async fn transition(State(registry): State<Registry>, fields: Fields) -> Answer {
    let stage = stage(&fields.required("stage")?)?;
    let archive = fields.boolean("archive_existing_versions")?.unwrap_or(false);
    let (model, version) = named(&fields)?;
    let name = VersionName { model: &model, version };
    Ok(answer(whole(&change::transition(&registry, name, stage, archive).await?)))
}

async fn delete(
    State(registry): State<Registry>,
    caller: Caller,
    RawQuery(query): RawQuery,
    fields: Fields,
) -> Answer {
    let (model, version) = named(&fields)?;
    let force = fields.is_forced(query.as_deref())?;
    removal::version(&registry, &caller, &model, version, force).await?;
    Ok(empty())
}

async fn set_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let key = fields.required("key")?;
    let value = fields.string("value")?.unwrap_or_default();
    let (model, version) = named(&fields)?;
    change::set_tag(&registry, VersionName { model: &model, version }, (key, value)).await?;
    Ok(empty())
}

async fn delete_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let key = fields.required("key")?;
    let (model, version) = named(&fields)?;
    change::delete_tag(&registry, VersionName { model: &model, version }, &key).await?;
    Ok(empty())
}
