//! The extensions of the protocol for the repository, logging and tracing.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::routing::post;
use http::HeaderMap;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use slipway_api::inference::repository_index_response::ModelIndex;
use slipway_api::rest::serving::{
    EmptyObject, IndexRequest, LoadRequest, LogSettings, RepositoryModel, SettingValue, TraceSettings,
};
use slipway_http_server::json;
use slipway_openapi::{DocumentedRouter, routes};
use tracing::level_filters::LevelFilter;

use super::body::read;
use super::extract::{CalledBy, Model, named};
use crate::api::access::Caller;
use crate::api::changed_by::ChangedBy;
use crate::api::log_settings::{LOG_FORMAT, LogValue, verbosity};
use crate::api::repository;
use crate::failure::Failure;
use crate::state::ServingState;

/// Largest body of these calls.
const MAX_CONTROL_BODY_BYTES: usize = 1024 * 1024;

/// A model, in the one repository or in one that the path names.
#[derive(Debug)]
pub(super) struct Stored {
    repository: Option<String>,
    name: String,
}

#[derive(Deserialize)]
struct StoredPath {
    repository: Option<String>,
    name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Stored {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let StoredPath { repository, name } = named(parts, state).await?;
        Ok(Self { repository, name })
    }
}

/// Who sends a call, for the log.
pub(super) struct By(ChangedBy);

impl FromRequestParts<ServingState> for By {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ServingState) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        Ok(Self(ChangedBy { peer, token: state.access.name_of(parts.extensions.get::<Caller>()) }))
    }
}

pub(super) fn router() -> DocumentedRouter<ServingState> {
    let router = DocumentedRouter::new()
        .routes(routes!(index))
        .routes(routes!(load))
        .routes(routes!(unload))
        .routes(routes!(log, update_log))
        .routes(routes!(trace, update_trace))
        .routes(routes!(model_trace, update_model_trace));
    let (one, named) = ("/v2/repository/models/{name}", "/v2/repository/{repository}/models/{name}");
    let router = router.also(&format!("{one}/load"), &format!("{named}/load"), post(load));
    router.also(&format!("{one}/unload"), &format!("{named}/unload"), post(unload))
}

/// Lists versions of models that the caller may use.
#[utoipa::path(post, path = "/v2/repository/index", tag = "repository", request_body = IndexRequest,
    responses((status = 200, body = Vec<RepositoryModel>)))]
async fn index(
    State(state): State<ServingState>,
    caller: CalledBy,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Vec<RepositoryModel>>, Failure> {
    let request: IndexRequest = parsed(&headers, body).await?;
    let mut models = repository::index(&state.routing, "", request.ready.unwrap_or(false))?;
    let sees = state.access.sees(caller.as_deref());
    models.retain(|model| sees(&model.name));
    Ok(Json(models.into_iter().map(listed).collect()))
}

fn listed(ModelIndex { name, version, state, reason }: ModelIndex) -> RepositoryModel {
    RepositoryModel { name, version, state, reason }
}

/// Loads a model. Succeeds where a traffic table names it and it is loaded; only traffic tables place models.
#[utoipa::path(post, path = "/v2/repository/models/{name}/load", tag = "repository", params(("name" = String,
    Path, description = "Deployment")),
    request_body = LoadRequest, responses((status = 200, description = "It is loaded", body = EmptyObject),
        (status = 501, description = "Only traffic tables place models")))]
async fn load(
    State(state): State<ServingState>,
    model: Stored,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EmptyObject>, Failure> {
    let request: LoadRequest = parsed(&headers, body).await?;
    let parameters = request.parameters.unwrap_or_default();
    let repository = model.repository.unwrap_or_default();
    repository::load(&state.routing, &repository, &model.name, parameters.keys().map(String::as_str))?;
    Ok(Json(EmptyObject {}))
}

/// Unloads a model. Succeeds where it is not loaded; only traffic tables place models.
#[utoipa::path(post, path = "/v2/repository/models/{name}/unload", tag = "repository",
    params(("name" = String, Path, description = "Deployment")),
    responses((status = 200, description = "It is not loaded", body = EmptyObject),
        (status = 501, description = "Only traffic tables place models")))]
async fn unload(State(state): State<ServingState>, model: Stored) -> Result<Json<EmptyObject>, Failure> {
    repository::unload(&state.routing, model.repository.as_deref().unwrap_or_default(), &model.name)?;
    Ok(Json(EmptyObject {}))
}

/// Shows the settings of the log.
#[utoipa::path(get, path = "/v2/logging", tag = "logging", responses((status = 200, body = LogSettings)))]
async fn log(State(state): State<ServingState>) -> Json<LogSettings> {
    let level = state.settings.log.level();
    Json(LogSettings {
        log_file: String::new(),
        log_info: level >= LevelFilter::INFO,
        log_warning: level >= LevelFilter::WARN,
        log_error: level >= LevelFilter::ERROR,
        log_verbose_level: verbosity(level),
        log_format: LOG_FORMAT.to_owned(),
    })
}

/// Changes the settings of the log. Clients cannot turn off warnings and errors.
#[utoipa::path(post, path = "/v2/logging", tag = "logging", request_body = std::collections::HashMap<String,
    SettingValue>,
    responses((status = 200, body = LogSettings)))]
async fn update_log(
    State(state): State<ServingState>,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LogSettings>, Failure> {
    let wanted: Map<String, Value> = parsed(&headers, body).await?;
    let mut values = Vec::with_capacity(wanted.len());
    for (name, value) in wanted {
        let value = match &value {
            Value::Bool(flag) => LogValue::Flag(*flag),
            Value::String(text) => LogValue::Text(text.clone()),
            Value::Number(number) => {
                let number = number.as_u64().and_then(|number| u32::try_from(number).ok());
                LogValue::Number(number.ok_or_else(|| not_a_setting(&name, &value))?)
            }
            // As with traces, null asks for the default.
            Value::Null => continue,
            _ => return Err(not_a_setting(&name, &value)),
        };
        values.push((name, value));
    }
    state.settings.log.update(&values, &by.0)?;
    Ok(log(State(state)).await)
}

/// Shows the settings of tracing.
#[utoipa::path(get, path = "/v2/trace/setting", tag = "tracing", responses((status = 200,
    body = TraceSettings)))]
async fn trace(State(state): State<ServingState>) -> Json<TraceSettings> {
    traced(&state, None)
}

fn traced(state: &ServingState, model: Option<&str>) -> Json<TraceSettings> {
    let [level, rate, count, frequency, file, mode] = state.settings.trace.shown(model).map(|(_, now)| now);
    Json(TraceSettings {
        trace_level: vec![level],
        trace_rate: rate,
        trace_count: count,
        log_frequency: frequency,
        trace_file: file,
        trace_mode: mode,
    })
}

/// Changes the settings of tracing.
#[utoipa::path(post, path = "/v2/trace/setting", tag = "tracing",
    request_body = std::collections::HashMap<String, SettingValue>,
    responses((status = 200, body = TraceSettings)))]
async fn update_trace(
    State(state): State<ServingState>,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TraceSettings>, Failure> {
    change_trace(&state, None, &by, &headers, body).await
}

async fn change_trace(
    state: &ServingState,
    model: Option<&str>,
    By(by): &By,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<TraceSettings>, Failure> {
    let wanted: Map<String, Value> = parsed(headers, body).await?;
    let mut values = Vec::with_capacity(wanted.len());
    for (name, value) in wanted {
        let one = |one: &Value| match one {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(not_a_setting(&name, other)),
        };
        let given = match &value {
            Value::Null => Vec::new(),
            Value::Array(several) => several.iter().map(one).collect::<Result<_, _>>()?,
            single => vec![one(single)?],
        };
        values.push((name, given));
    }
    state.settings.trace.update(model, &values, by)?;
    Ok(traced(state, model))
}

/// Shows the settings of tracing for one model.
#[utoipa::path(get, path = "/v2/models/{name}/trace/setting", tag = "tracing", params(("name" = String, Path,
    description = "Deployment")),
    responses((status = 200, body = TraceSettings)))]
async fn model_trace(
    State(state): State<ServingState>,
    model: Model,
) -> Result<Json<TraceSettings>, Failure> {
    state.routing.get(&model.name)?;
    Ok(traced(&state, Some(&model.name)))
}

/// Changes the settings of tracing for one model.
#[utoipa::path(post, path = "/v2/models/{name}/trace/setting", tag = "tracing", params(("name" = String,
    Path, description = "Deployment")),
    request_body = std::collections::HashMap<String, SettingValue>, responses((status = 200,
    body = TraceSettings)))]
async fn update_model_trace(
    State(state): State<ServingState>,
    model: Model,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TraceSettings>, Failure> {
    state.routing.get(&model.name)?;
    change_trace(&state, Some(&model.name), &by, &headers, body).await
}

fn not_a_setting(name: &str, value: &Value) -> Failure {
    Failure::invalid(format!(
        "setting '{name}' cannot be {value}; settings are true or false, text, or whole numbers from 0"
    ))
}

/// The body as JSON; none at all is the default.
async fn parsed<T: DeserializeOwned + Default>(headers: &HeaderMap, body: Body) -> Result<T, Failure> {
    let body = read(headers, body, MAX_CONTROL_BODY_BYTES).await?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    Ok(json::read(&body)?)
}
