//! True values for past predictions.

use std::future::IntoFuture as _;
use std::time::Duration;

use async_nats::HeaderMap;
use axum::Json;
use axum::extract::State;
use axum::routing::post;
use futures::{StreamExt as _, stream};
use http::StatusCode;
use serde_json::Value;
use slipway_api::predictions::{LABELS_SUBJECT, LabelRecord};
use slipway_api::rest::serving::{AcceptedLabels, Label, Labels};
use slipway_event_bus::EventBus;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path};
use slipway_openapi::{DocumentedRouter, routes};
use slipway_runtime::clock::now_unix_ms;

use crate::state::ServingState;

/// Labels of one request.
const MAX_LABELS: usize = 10_000;
/// Longest id of a request; predictions take no longer ones.
const MAX_REQUEST_ID_BYTES: usize = 256;
/// Labels of one request on their way to NATS at the same time.
const PARALLEL_PUBLISHES: usize = 256;
/// A request whose labels are not acknowledged gets 503 after this time, counted from the last one that was.
const ACKNOWLEDGE_TIMEOUT_MS: u64 = 10_000;

pub(super) fn router() -> DocumentedRouter<ServingState> {
    let path = "/api/v1/deployments/{name}/labels";
    let router = DocumentedRouter::new().routes(routes!(accept));
    router.also(path, "/v1/deployments/{name}/labels", post(accept))
}

/// Attaches true values to past predictions. Returns once every label is stored.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/labels", tag = "labels", params(("name" = String,
    Path, description = "Deployment")),
    request_body = Labels, responses((status = 202, description = "Stored", body = AcceptedLabels),
        (status = 409, description = "This replica has no NATS address")))]
async fn accept(
    State(state): State<ServingState>,
    Path(deployment): Path<String>,
    JsonBody(body): JsonBody<Labels>,
) -> Result<(StatusCode, Json<AcceptedLabels>), Problem> {
    state
        .routing
        .get(&deployment)
        .map_err(|_unknown| Problem::not_found(format!("deployment `{deployment}`")))?;
    if body.labels.is_empty() || body.labels.len() > MAX_LABELS {
        return Err(Problem::invalid(
            "labels",
            format!("expected 1 to {MAX_LABELS} entries, got {}", body.labels.len()),
        ));
    }
    let resolved = state.routing.selection.resolve(&deployment);
    let mut records = Vec::with_capacity(body.labels.len());
    for (at, label) in body.labels.into_iter().enumerate() {
        records.push(record(at, label, &resolved)?);
    }
    let bus = state.bus.as_ref().ok_or_else(no_nats)?;
    if !bus.is_connected() {
        return Err(away(&"not connected"));
    }
    let accepted = records.len();
    let publish = |record| send(bus, record);
    let mut published = stream::iter(records).map(publish).buffer_unordered(PARALLEL_PUBLISHES);
    let patience = Duration::from_millis(ACKNOWLEDGE_TIMEOUT_MS);
    while let Some(stored) =
        tokio::time::timeout(patience, published.next()).await.map_err(|late| away(&late))?
    {
        stored?;
        state.counted.labelled(&resolved, 1, now_unix_ms());
    }
    Ok((StatusCode::ACCEPTED, Json(AcceptedLabels { accepted })))
}

fn record(at: usize, label: Label, deployment: &str) -> Result<LabelRecord, Problem> {
    let id = &label.request_id;
    if id.is_empty() || id.len() > MAX_REQUEST_ID_BYTES || id.contains(char::is_control) {
        return Err(Problem::invalid(
            format!("labels[{at}].request_id"),
            "expected the id of a past request",
        ));
    }
    let labels = match label.label {
        Value::Array(labels) => labels,
        label => vec![label],
    };
    let scalar = |label: &Value| matches!(label, Value::Number(_) | Value::String(_) | Value::Bool(_));
    if labels.is_empty() || !labels.iter().all(scalar) {
        return Err(Problem::invalid(
            format!("labels[{at}].label"),
            "expected a number, a string, a boolean, or an array of these with one for each row",
        ));
    }
    Ok(LabelRecord {
        request_id: label.request_id,
        deployment: deployment.to_owned(),
        labels,
        at_unix_ms: now_unix_ms(),
    })
}

/// Publishes one label and waits until it is stored.
async fn send(bus: &EventBus, record: LabelRecord) -> Result<(), Problem> {
    let body = serde_json::to_vec(&record).map_err(Problem::internal)?;
    let mut headers = HeaderMap::new();
    // A label that is sent again after a lost answer is stored once.
    headers.insert("Nats-Msg-Id", format!("{}/{}", record.deployment, record.request_id));
    headers.insert("content-type", "application/json");
    let published = bus.jetstream().publish_with_headers(LABELS_SUBJECT, headers, body.into()).await;
    let acknowledgement = published.map_err(|error| away(&error))?;
    acknowledgement.into_future().await.map(|_stored| ()).map_err(|error| away(&error))
}

fn no_nats() -> Problem {
    Problem::conflict(
        "labels are published to NATS, and this replica has no NATS address (--nats-url or SLIPWAY_NATS_URL)",
    )
}

fn away(error: &impl std::fmt::Display) -> Problem {
    tracing::warn!(%error, "labels are not accepted: NATS does not acknowledge them");
    Problem::unavailable("the label stream")
}
