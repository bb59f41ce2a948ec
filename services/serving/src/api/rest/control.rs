//! Repository, logging, tracing and shared memory: mostly asked about, seldom changed.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use http::HeaderMap;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use slipway_http_server::json;

use super::body::read;
use super::extract::{CalledBy, Model, named};
use crate::api::access::Caller;
use crate::api::changed_by::ChangedBy;
use crate::api::log_settings::LogValue;
use crate::api::repository;
use crate::failure::{Failure, Kind};
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

#[derive(Deserialize, Default)]
struct IndexRequest {
    ready: Option<bool>,
}

#[derive(Deserialize, Default)]
struct LoadRequest {
    parameters: Option<Map<String, Value>>,
}

pub(super) async fn index(
    State(state): State<ServingState>,
    caller: CalledBy,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let request: IndexRequest = parsed(&headers, body).await?;
    let mut models = repository::index(&state.routing, "", request.ready.unwrap_or(false))?;
    let sees = state.access.sees(caller.as_deref());
    models.retain(|model| sees(&model.name));
    let one = |model: &slipway_api::inference::repository_index_response::ModelIndex| {
        json!({"name": model.name, "version": model.version,
            "state": model.state, "reason": model.reason})
    };
    Ok(Json(models.iter().map(one).collect()))
}

pub(super) async fn load(
    State(state): State<ServingState>,
    model: Stored,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let request: LoadRequest = parsed(&headers, body).await?;
    let parameters = request.parameters.unwrap_or_default();
    let repository = model.repository.unwrap_or_default();
    repository::load(&state.routing, &repository, &model.name, parameters.keys().map(String::as_str))?;
    Ok(Json(json!({})))
}

pub(super) async fn unload(State(state): State<ServingState>, model: Stored) -> Result<Json<Value>, Failure> {
    repository::unload(&state.routing, model.repository.as_deref().unwrap_or_default(), &model.name)?;
    Ok(Json(json!({})))
}

pub(super) async fn log(State(state): State<ServingState>) -> Json<Value> {
    let value = |value| match value {
        LogValue::Flag(flag) => Value::from(flag),
        LogValue::Number(number) => Value::from(number),
        LogValue::Text(text) => Value::from(text),
    };
    let settings = state.settings.log.shown().map(|(name, now)| (name.to_owned(), value(now)));
    Json(Value::Object(settings.into_iter().collect()))
}

pub(super) async fn update_log(
    State(state): State<ServingState>,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
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

pub(super) async fn trace(State(state): State<ServingState>) -> Json<Value> {
    traced(&state, None)
}

fn traced(state: &ServingState, model: Option<&str>) -> Json<Value> {
    let settings = state.settings.trace.shown(model).map(|(name, now)| {
        let value = if name == "trace_level" { json!([now]) } else { Value::from(now) };
        (name.to_owned(), value)
    });
    Json(Value::Object(settings.into_iter().collect()))
}

pub(super) async fn update_trace(
    State(state): State<ServingState>,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    change_trace(&state, None, &by, &headers, body).await
}

async fn change_trace(
    state: &ServingState,
    model: Option<&str>,
    By(by): &By,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
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

pub(super) async fn model_trace(
    State(state): State<ServingState>,
    model: Model,
) -> Result<Json<Value>, Failure> {
    state.routing.get(&model.name)?;
    Ok(traced(&state, Some(&model.name)))
}

pub(super) async fn update_model_trace(
    State(state): State<ServingState>,
    model: Model,
    by: By,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    state.routing.get(&model.name)?;
    change_trace(&state, Some(&model.name), &by, &headers, body).await
}

/// No region is registered, ever.
pub(super) async fn no_shared_memory() -> Json<Value> {
    Json(json!([]))
}

pub(super) async fn unknown_region(path: axum::extract::OriginalUri) -> Failure {
    Failure::not_found(format!("no shared memory is registered: {}", path.path()))
}

/// What is not registered need not be unregistered.
pub(super) async fn nothing_registered() -> Json<Value> {
    Json(json!({}))
}

pub(super) async fn shared_memory_refused() -> Failure {
    Failure::new(Kind::Unsupported, "shared memory is not supported; send the data in the request")
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
