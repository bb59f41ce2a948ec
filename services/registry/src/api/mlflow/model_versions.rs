//! `/mlflow/model-versions`.

use axum::extract::{RawQuery, State};
use axum::routing::{delete as on_delete, get, patch, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use slipway_domain::registry::filter::Entity;
use slipway_domain::registry::{validate_model_name, validate_registry_tag, validate_version};

use super::message::Message;
use super::prompts::refuse_prompt;
use super::search::Search;
use super::{Answer, Fields, answer, empty, now_ms};
use crate::access::caller::Caller;
use crate::change::Change;
use crate::error::{Code, Error};
use crate::models::removal;
use crate::models::versions::create::{self as versions, Request};
use crate::models::versions::profile::PROFILE_PATH;
use crate::state::Registry;
use crate::store::model_versions::{self as table, ModelVersion};
use crate::store::registered_models::{model_hold, model_touch};

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
pub(super) fn number(fields: &Fields) -> Result<i32, Error> {
    Ok(validate_version(&fields.required("version")?)?)
}

fn first_or_later(fields: &Fields) -> Result<i32, Error> {
    match number(fields)? {
        number if number > 0 => Ok(number),
        number => Err(Error::invalid(format!(
            "Invalid value \"{number}\" for parameter 'version' supplied: the first version is 1"
        ))),
    }
}

/// A stage by its name, in any case.
pub(super) fn stage(asked: &str) -> Result<&'static str, Error> {
    STAGES.iter().find(|known| known.eq_ignore_ascii_case(asked)).copied().ok_or_else(|| {
        Error::invalid(format!(
            "Invalid Model Version stage: {asked}. Value must be one of {}.",
            STAGES.join(", ")
        ))
    })
}

async fn create(
    State(registry): State<Registry>,
    caller: Caller,
    mut fields: Fields,
) -> Result<(HeaderMap, Json<Value>), Error> {
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

/// What is to be said of a version beyond its status: why serving cannot load it, and what drift monitoring cannot compare.
fn status_message(version: &ModelVersion) -> Option<String> {
    let facts = &version.facts.0;
    let unservable =
        facts.unservable_reason.as_ref().map(|reason| format!("Slipway cannot serve it: {reason}"));
    let misfit = facts.profile_misfit.as_ref().map(|why| {
        format!("the training profile {PROFILE_PATH} of its run does not fit it, so drift is not monitored as it should be: {why}")
    });
    let said: Vec<String> = unservable.into_iter().chain(misfit).collect();
    (!said.is_empty()).then(|| format!("registered, but {}", said.join("; and ")))
}

/// The header `Warning` (RFC 7234, section 5.5): code 299, miscellaneous and persistent. Printable ASCII only.
fn warning(text: &str) -> Option<HeaderValue> {
    let plain = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    let text: String = text.chars().take(MAX_WARNING_CHARS).map(plain).collect();
    HeaderValue::from_str(&format!("299 slipway \"{}\"", text.replace('\\', "/").replace('"', "'"))).ok()
}

async fn by_number(State(registry): State<Registry>, fields: Fields) -> Answer {
    let name = fields.required("name")?;
    let version = number(&fields)?;
    let mut db = registry.pool.acquire().await?;
    let version = table::version_get(&mut db, &name, version).await?;
    Ok(answer(Message::new().put("model_version", body(&version))))
}

async fn search(State(registry): State<Registry>, caller: Caller, fields: Fields) -> Answer {
    let search = Search::read(Entity::ModelVersions, &fields, DEFAULT_RESULTS, MAX_RESULTS)?;
    let mut db = registry.pool.acquire().await?;
    let visible = caller.grants.visible_models();
    let found = table::version_search(&mut db, &visible, search.conditions(), search.page()?).await?;
    let (found, token) = search.cut(found);
    let found = found.iter().map(|version| body(version).into_value()).collect();
    Ok(answer(Message::new().list("model_versions", found).maybe("next_page_token", token)))
}

async fn download_uri(State(registry): State<Registry>, fields: Fields) -> Answer {
    let name = fields.required("name")?;
    let version = number(&fields)?;
    let mut db = registry.pool.acquire().await?;
    let version = table::version_get(&mut db, &name, version).await?;
    Ok(answer(json!({ "artifact_uri": version.download_uri })))
}

/// The version that a request is about, its model held until the change ends.
struct Target {
    model_key: i64,
    name: String,
    version: i32,
    now: i64,
}

/// Whether the model itself counts as changed: for MLflow it does with the stage of a version, and not with its description or tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touches {
    Model,
    VersionAlone,
}

impl Target {
    async fn hold(change: &mut Change, fields: &Fields, touches: Touches) -> Result<Self, Error> {
        let name = fields.required("name")?;
        let version = number(fields)?;
        let now = now_ms();
        let held = match touches {
            Touches::Model => model_touch(change.db(), &name, now).await,
            Touches::VersionAlone => model_hold(change.db(), &name).await,
        };
        let model_key = match held {
            Err(missing) if missing.code == Code::ResourceDoesNotExist => {
                return Err(table::absent(&name, version));
            }
            found => found?,
        };
        table::version_require(change.db(), model_key, &name, version).await?;
        Ok(Self { model_key, name, version, now })
    }

    fn id(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }
}

async fn update(State(registry): State<Registry>, fields: Fields) -> Answer {
    let description = fields.string("description")?;
    let mut change = registry.change().await?;
    let target = Target::hold(&mut change, &fields, Touches::VersionAlone).await?;
    let changed = (description.as_deref(), None);
    table::version_update(change.db(), target.model_key, target.version, changed, target.now).await?;
    finish(change, &target, json!({})).await
}

async fn transition(State(registry): State<Registry>, fields: Fields) -> Answer {
    let stage = stage(&fields.required("stage")?)?;
    let archive = fields.boolean("archive_existing_versions")?.unwrap_or(false);
    if archive && !matches!(stage, "Staging" | "Production") {
        return Err(Error::invalid(format!(
            "Model version transition cannot archive existing model versions because '{stage}' is not an Active stage. \
             Valid stages are Staging, Production"
        )));
    }
    let mut change = registry.change().await?;
    let target = Target::hold(&mut change, &fields, Touches::Model).await?;
    if archive {
        table::versions_archive(change.db(), target.model_key, stage, target.version, target.now).await?;
    }
    table::version_update(change.db(), target.model_key, target.version, (None, Some(stage)), target.now)
        .await?;
    finish(change, &target, json!({ "stage": stage })).await
}

async fn finish(mut change: Change, target: &Target, details: serde_json::Value) -> Answer {
    change.tell("model-version", "updated", target.id(), details).await?;
    let version = table::version_get(change.db(), &target.name, target.version).await?;
    change.commit().await?;
    Ok(answer(Message::new().put("model_version", body(&version))))
}

async fn delete(
    State(registry): State<Registry>,
    caller: Caller,
    RawQuery(query): RawQuery,
    fields: Fields,
) -> Answer {
    let (name, version) = (fields.required("name")?, number(&fields)?);
    let force = fields.is_forced(query.as_deref())?;
    removal::version(&registry, &caller, &name, version, force).await?;
    Ok(empty())
}

async fn set_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let key = fields.required("key")?;
    let value = fields.string("value")?.unwrap_or_default();
    validate_registry_tag(&key, &value)?;
    let mut change = registry.change().await?;
    let target = Target::hold(&mut change, &fields, Touches::VersionAlone).await?;
    let details = json!({"tags": [key], "tag_set": {"key": key, "value": value}});
    change.tell("model-version", "updated", target.id(), details).await?;
    table::version_tags_set(change.db(), target.model_key, target.version, &[(key, value)]).await?;
    change.commit().await?;
    Ok(empty())
}

async fn delete_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let key = fields.required("key")?;
    let mut change = registry.change().await?;
    let target = Target::hold(&mut change, &fields, Touches::VersionAlone).await?;
    table::version_tag_delete(change.db(), target.model_key, target.version, &key).await?;
    let details = json!({"tags": [key], "tag_deleted": key});
    change.tell("model-version", "updated", target.id(), details).await?;
    change.commit().await?;
    Ok(empty())
}
