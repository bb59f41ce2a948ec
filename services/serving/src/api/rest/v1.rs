//! KServe's v1 protocol.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, header};
use serde_json::Map;
use slipway_api::rest::serving::{Alive, ModelReady, PredictRequest, PredictResponse};
use slipway_inference::{Priority, Signature, Tensor};
use slipway_openapi::{DocumentedRouter, routes};

use super::body::{header as text_of, offload, read};
use super::extract::Model;
use super::infer::{REQUEST_ID, sticky_key, with_request_id};
use crate::api::describe;
use crate::codec::{parse_instances, predictions};
use crate::failure::{Failure, Kind};
use crate::models::routing::Route;
use crate::predict::{Call, request_id};
use crate::state::ServingState;

/// What a model is asked for stands behind its name.
const PREDICT: &str = ":predict";
const EXPLAIN: &str = ":explain";

pub(super) fn router() -> DocumentedRouter<ServingState> {
    DocumentedRouter::new().routes(routes!(alive)).routes(routes!(ready, predict))
}

/// Checks that the server is alive, as KServe's v1 client does.
#[utoipa::path(get, path = "/", tag = "kserve-v1", responses((status = 200, body = Alive)))]
async fn alive() -> Json<Alive> {
    Json(Alive { status: "alive".to_owned() })
}

/// Checks that a model is ready.
#[utoipa::path(get, path = "/v1/models/{name}", tag = "kserve-v1", params(("name" = String, Path,
    description = "Deployment")),
    responses((status = 200, body = ModelReady),
        (status = 405, description = "The name ends in `:predict`, which takes POST")))]
async fn ready(State(state): State<ServingState>, model: Model) -> Response {
    match describe::ready(&state.routing, &model.name, None) {
        Ok(()) => Json(ModelReady { name: model.name, ready: true }).into_response(),
        // It is another path, unless a model is called so.
        Err(_unknown) if model.name.ends_with(PREDICT) || model.name.ends_with(EXPLAIN) => {
            only("POST", "Method Not Allowed")
        }
        Err(failure) => failure.into_response(),
    }
}

/// Predicts, row by row. `name` is `<deployment>:predict`.
#[utoipa::path(post, path = "/v1/models/{name}", tag = "kserve-v1",
    params(("name" = String, Path, description = "`<deployment>:predict`"),
        ("X-Request-Id" = Option<String>, Header, description = "ID of the request [default: random]")),
    request_body = PredictRequest,
    responses((status = 200, body = PredictResponse), (status = 405,
    description = "The name does not end in `:predict`"),
        (status = 500, description = "The model failed"), (status = 501,
        description = "Explanations are not supported")))]
async fn predict(
    State(state): State<ServingState>,
    model: Model,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !model.name.ends_with(PREDICT) && !model.name.ends_with(EXPLAIN) {
        return only("GET, HEAD", "Method Not Allowed; predictions are at …:predict");
    }
    let id = request_id(&[text_of(&headers, REQUEST_ID)]);
    with_request_id(answer(&state, &model.name, &headers, body, &id).await, &id)
}

async fn answer(
    state: &ServingState,
    name: &str,
    headers: &HeaderMap,
    body: Body,
    id: &str,
) -> Result<Response, Failure> {
    state.routing.currency.settled().await;
    let (route, signature) = called(state, name)?;
    let body = read(headers, body, state.max_body_bytes).await?;
    let inputs = offload(body.len(), move || parse_instances(&body, &signature)).await?;
    let key = |name: &str| sticky_key(headers, &Map::new(), name);
    let call = Call {
        version: None,
        request_id: id,
        timeout_us: None,
        priority: Priority::Normal,
        headers: &key,
        depth: 0,
    };
    let answer = state.predictor.predict(&route, &call, |_| Ok(inputs)).await?;
    let bytes = answer.outputs.iter().map(Tensor::size_bytes).sum();
    let rows = offload(bytes, move || predictions(&answer.outputs, answer.rows)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], rows).into_response())
}

/// The refusal of a method, where a path takes others; one route is for models and what they are asked for.
fn only(methods: &'static str, told: &str) -> Response {
    let refusal = Failure::new(Kind::MethodNotAllowed, told);
    ([(header::ALLOW, methods)], refusal).into_response()
}

/// The deployment of `<name>:predict`, and what it takes.
fn called(state: &ServingState, name: &str) -> Result<(Arc<Route>, Signature), Failure> {
    let Some(name) = name.strip_suffix(PREDICT) else {
        return Err(Failure::new(Kind::Unsupported, "explanations are not supported"));
    };
    let route = state.routing.get(name)?;
    let signature = route.representative()?.described.signature.clone();
    Ok((route, signature))
}
