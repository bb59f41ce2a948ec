//! `POST /v2/models/{name}[/versions/{version}]/infer`.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value};
use slipway_api::rest::serving::{InferRequest as RequestBody, InferResponse as ResponseBody};
use slipway_http_server::EndConnection;
use slipway_inference::{Signature, Tensor};
use slipway_openapi::{DocumentedRouter, routes};

use super::VERSIONED;
use super::body::{header, offload, read};
use super::extract::Model;
use crate::api::parameters::{priority, timeout_us};
use crate::codec::compression::Coding;
use crate::codec::{Encoded, HEADER_LENGTH, InferRequest, InferResponse, Inputs};
use crate::failure::Failure;
use crate::predict::{Answer, Call, request_id};
use crate::state::ServingState;

/// The header that carries a request's id both ways.
pub(super) const REQUEST_ID: &str = "x-request-id";

pub(super) fn router() -> DocumentedRouter<ServingState> {
    let router = DocumentedRouter::new().routes(routes!(infer));
    router.also("/v2/models/{name}/infer", &format!("{VERSIONED}/infer"), post(infer))
}

/// Predicts.
///
/// The traffic table of the deployment chooses the version, unless the path names one. With the header
/// `Inference-Header-Content-Length`, tensors follow the JSON as bytes; so they do in the response where the
/// request asks for `binary_data_output`.
#[utoipa::path(post, path = "/v2/models/{name}/infer", tag = "inference",
    params(("name" = String, Path, description = "Deployment"),
        ("Inference-Header-Content-Length" = Option<u64>, Header,
        description = "Length of the JSON before binary tensors, in bytes"),
        ("X-Request-Id" = Option<String>, Header,
        description = "ID of the request [default: `id` of the body, or a random one]")),
    request_body(content((RequestBody = "application/json"), (String = "application/octet-stream"))),
    responses((status = 200, description = "The outputs",
            content((ResponseBody = "application/json"), (String = "application/octet-stream"))),
        (status = 500, description = "The model failed"),
        (status = 501, description = "The request requires a part of the protocol that is not supported")))]
async fn infer(State(state): State<ServingState>, model: Model, headers: HeaderMap, body: Body) -> Response {
    respond(&state, model, &headers, body).await
}

/// Answers a prediction.
pub(super) async fn respond(state: &ServingState, model: Model, headers: &HeaderMap, body: Body) -> Response {
    let mut id = String::new();
    let answer = answer(state, model, headers, body, &mut id).await;
    if id.is_empty() {
        id = request_id(&[header(headers, REQUEST_ID)]);
    }
    with_request_id(answer, &id)
}

/// Adds the id to an answer of either kind.
pub(super) fn with_request_id(answer: Result<Response, Failure>, id: &str) -> Response {
    let mut response = answer.unwrap_or_else(Failure::into_response);
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn answer(
    state: &ServingState,
    model: Model,
    headers: &HeaderMap,
    body: Body,
    id: &mut String,
) -> Result<Response, Failure> {
    // A request for an unknown model is rejected without keeping its body.
    let model = model.checked()?;
    state.routing.currency.settled().await;
    let route = state.routing.get(&model.name)?;
    state.predictor.admit(&route, model.version.as_deref())?;
    let body = read(headers, body, state.max_body_bytes).await?;
    let header_length = header(headers, HEADER_LENGTH).map(str::to_owned);
    let mut request =
        offload(body.len(), move || InferRequest::parse(&body, header_length.as_deref())).await?;
    *id = request_id(&[header(headers, REQUEST_ID), request.id.as_deref()]);
    let parameter =
        |name: &str| request.parameters.get(name).filter(|value| !value.is_null()).map(Value::as_u64);
    let key = |name: &str| sticky_key(headers, &request.parameters, name);
    let call = Call {
        version: model.version.as_deref(),
        request_id: id,
        timeout_us: timeout_us(parameter("timeout"))?,
        priority: priority(parameter("priority"))?,
        headers: &key,
        depth: 0,
    };
    let inputs = std::mem::replace(&mut request.inputs, Inputs::Named(Vec::new()));
    let read = |signature: &Signature| {
        request.check_outputs(signature)?;
        inputs.resolve(signature)
    };
    let answer = state.predictor.predict(&route, &call, read).await?;
    let accepted = header(headers, header::ACCEPT_ENCODING.as_str()).map(str::to_owned);
    let bytes = answer.outputs.iter().map(Tensor::size_bytes).sum();
    let packed = move || pack(&model.name, &answer, &request, accepted.as_deref());
    let (encoded, coding) = offload(bytes, packed).await?;
    let mut response = response(encoded, coding);
    if state.routing.is_left(&route) {
        response.extensions_mut().insert(EndConnection);
    }
    Ok(response)
}

fn pack(
    model_name: &str,
    answer: &Answer,
    request: &InferRequest,
    accepted: Option<&str>,
) -> Result<(Encoded, Option<Coding>), Failure> {
    let response = InferResponse {
        model_name,
        model_version: &answer.source.version,
        outputs: &answer.outputs,
        labels: &answer.described.beside.labels,
    };
    let plain = response.encode(request)?;
    match Coding::of_response(accepted, plain.body.len()) {
        None => Ok((plain, None)),
        Some(coding) => Ok((Encoded { body: coding.pack(&plain.body).into(), ..plain }, Some(coding))),
    }
}

/// The key of a sticky client: the header of that name, or the request parameter.
pub(super) fn sticky_key(headers: &HeaderMap, parameters: &Map<String, Value>, name: &str) -> Option<String> {
    let given = header(headers, name).map(str::to_owned);
    given.or_else(|| match parameters.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn response(encoded: Encoded, coding: Option<Coding>) -> Response {
    let mut response = Body::from(encoded.body).into_response();
    let into = response.headers_mut();
    let content_type = match encoded.header_length {
        None => "application/json",
        Some(length) => {
            into.insert(HEADER_LENGTH, HeaderValue::from(length));
            "application/octet-stream"
        }
    };
    into.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(coding) = coding {
        into.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    response
}
