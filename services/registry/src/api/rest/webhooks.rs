//! REST v1: webhooks and their deliveries.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use chrono::DateTime;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use slipway_api::events::catalog::catalog;
use slipway_domain::Invalid;
use slipway_domain::registry::webhook::{Format, MAX_PATTERNS, matches, validate_pattern, validate_slug};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::now_ms;
use crate::state::Registry;
use crate::store::deliveries;
use crate::store::webhooks::{self as table, Update};
use crate::webhooks::{changing, reading, replay, sign, testing};

const MAX_DESCRIPTION_CHARS: usize = 1_000;
/// The secret before signs too for so long, where nobody says otherwise.
const DEFAULT_OVERLAP_S: u32 = 24 * 3_600;
const MAX_OVERLAP_S: u32 = 30 * 24 * 3_600;

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one, change, remove))
        .routes(routes!(rotate))
        .routes(routes!(test))
        .routes(routes!(list_deliveries))
        .routes(routes!(replay_one))
        .routes(routes!(replay_since))
}

/// A webhook that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    #[schema(example = "deploy-bot")]
    name: String,
    /// `http` or `https`, without credentials.
    #[schema(example = "https://example.org/hooks/slipway")]
    url: String,
    #[serde(default)]
    description: String,
    /// Patterns of event types: words between dots, `*` for any one word, `>` at the end for the rest.
    #[schema(example = json!(["slipway.registry.alias.*"]))]
    events: Vec<String>,
    /// `whsec_` with 24 to 64 bytes as base64; made where absent. It is never shown again.
    #[schema(value_type = Option<String>, write_only)]
    secret: Option<SecretString>,
    /// Whether it is called; true where absent.
    enabled: Option<bool>,
}

/// What changes; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookUpdate {
    url: Option<String>,
    description: Option<String>,
    events: Option<Vec<String>>,
    /// Switched on, it begins with what happens from now on.
    #[schema(example = false)]
    enabled: Option<bool>,
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
struct Webhook {
    /// By which MLflow's API knows it.
    id: String,
    name: String,
    /// `cloudevents`, or `mlflow` where it was made by MLflow's API.
    format: &'static str,
    url: String,
    description: String,
    /// Patterns of event types.
    events: Vec<String>,
    /// In MLflow's format: MLflow's events, as `entity.action`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mlflow_events: Vec<String>,
    enabled: bool,
    /// Why the registry switched it off.
    disabled_reason: Option<String>,
    created_at_unix_ms: i64,
    updated_at_unix_ms: i64,
    /// Only in the answer to the request that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Webhook {
    fn new(webhook: table::Webhook, secret: Option<String>) -> Self {
        Self {
            id: webhook.webhook_id,
            name: webhook.name,
            format: webhook.format.name(),
            url: webhook.url,
            description: webhook.description,
            events: webhook.events,
            mlflow_events: webhook.mlflow_events,
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled_reason,
            created_at_unix_ms: webhook.created_ms,
            updated_at_unix_ms: webhook.updated_ms,
            secret,
        }
    }
}

/// A page of webhooks, by name.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookPage {
    webhooks: Vec<Webhook>,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

fn refused(invalid: Invalid) -> Problem {
    Problem::invalid(invalid.field, invalid.message)
}

fn check_events(events: &[String]) -> Result<(), Problem> {
    if events.is_empty() || events.len() > MAX_PATTERNS {
        return Err(Problem::invalid("events", format!("expected 1 to {MAX_PATTERNS} patterns")));
    }
    for pattern in events {
        validate_pattern(pattern).map_err(refused)?;
        if !catalog().entries.keys().any(|subject| matches(pattern, subject)) {
            let message = format!("`{pattern}`: there is no such event; docs/events.md lists them");
            return Err(Problem::invalid("events", message));
        }
    }
    Ok(())
}

fn check_description(description: &str) -> Result<(), Problem> {
    if description.chars().count() <= MAX_DESCRIPTION_CHARS {
        return Ok(());
    }
    Err(Problem::invalid("description", format!("expected at most {MAX_DESCRIPTION_CHARS} characters")))
}

/// Lists webhooks by name.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks", params(PageQuery), responses((status = 200, body = WebhookPage)))]
async fn list(
    State(registry): State<Registry>,
    Query(query): Query<PageQuery>,
) -> Result<Json<WebhookPage>, Problem> {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let found = reading::list(&registry, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |webhook| webhook.name.clone());
    let webhooks = found.into_iter().map(|webhook| Webhook::new(webhook, None)).collect();
    Ok(Json(WebhookPage { webhooks, next_page_token }))
}

/// Makes a webhook; events that happen from now on are delivered to it.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", request_body = NewWebhook,
    responses((status = 201, body = Webhook, description = "Created; only this response contains `secret`, if it was generated")))]
async fn create(
    State(registry): State<Registry>,
    JsonBody(new): JsonBody<NewWebhook>,
) -> Result<(StatusCode, Json<Webhook>), Problem> {
    validate_slug(&new.name).map_err(refused)?;
    registry.webhooks.sender.check_url(&new.url).map_err(refused)?;
    check_description(&new.description)?;
    check_events(&new.events)?;
    let shown = new.secret.is_none();
    let secret = new.secret.unwrap_or_else(sign::new_secret);
    sign::check_secret(&secret).map_err(refused)?;
    let now = now_ms();
    let webhook = table::Webhook {
        webhook_key: 0,
        webhook_id: uuid::Uuid::now_v7().to_string(),
        name: new.name,
        format: Format::CloudEvents,
        url: new.url,
        description: new.description,
        events: new.events,
        mlflow_events: Vec::new(),
        enabled: new.enabled.unwrap_or(true),
        disabled_reason: None,
        active_from_ms: now,
        created_ms: now,
        updated_ms: now,
    };
    changing::create(&registry, &webhook, Some(&secret)).await?;
    let secret = shown.then(|| secret.expose_secret().to_owned());
    Ok((StatusCode::CREATED, Json(Webhook::new(webhook, secret))))
}

/// Shows a webhook.
#[utoipa::path(get, path = "/api/v1/webhooks/{name}", tag = "webhooks", params(("name" = String, Path)),
    responses((status = 200, body = Webhook)))]
async fn one(State(registry): State<Registry>, Path(name): Path<String>) -> Result<Json<Webhook>, Problem> {
    Ok(Json(Webhook::new(reading::get(&registry, &name).await?, None)))
}

/// Changes a webhook.
#[utoipa::path(patch, path = "/api/v1/webhooks/{name}", tag = "webhooks", params(("name" = String, Path)),
    request_body = WebhookUpdate, responses((status = 200, body = Webhook)))]
async fn change(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(update): JsonBody<WebhookUpdate>,
) -> Result<Json<Webhook>, Problem> {
    if let Some(url) = &update.url {
        registry.webhooks.sender.check_url(url).map_err(refused)?;
    }
    if let Some(events) = &update.events {
        check_events(events)?;
    }
    check_description(update.description.as_deref().unwrap_or_default())?;
    let there = reading::get(&registry, &name).await?;
    if update.events.is_some() && there.format == Format::Mlflow {
        let message = "this webhook has MLflow's events; change them by MLflow's API";
        return Err(Problem::invalid("events", message));
    }
    let changes = Update {
        url: update.url.as_deref(),
        description: update.description.as_deref(),
        events: update.events.as_deref(),
        enabled: update.enabled,
        ..Update::default()
    };
    Ok(Json(Webhook::new(changing::update(&registry, &name, &changes).await?, None)))
}

/// Removes a webhook with its deliveries.
#[utoipa::path(delete, path = "/api/v1/webhooks/{name}", tag = "webhooks", params(("name" = String, Path)),
    responses((status = 204)))]
async fn remove(State(registry): State<Registry>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    changing::remove(&registry, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new secret.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// `whsec_` with 24 to 64 bytes as base64; made where absent.
    #[schema(value_type = Option<String>, write_only)]
    secret: Option<SecretString>,
    /// The secret before signs too for so many seconds; a day where absent.
    #[schema(example = 3600)]
    overlap_s: Option<u32>,
}

/// The new secret, and until when both sign.
#[derive(Debug, Serialize, ToSchema)]
struct Rotated {
    /// Only where it was made here, and only in this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    old_secret_until_unix_ms: i64,
}

/// Signs with a new secret; for a while with the one before, too, except in MLflow's format, which has one signature.
#[utoipa::path(post, path = "/api/v1/webhooks/{name}/rotate-secret", tag = "webhooks", params(("name" = String, Path)),
    request_body = Rotation, responses((status = 200, body = Rotated)))]
async fn rotate(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(rotation): JsonBody<Rotation>,
) -> Result<Json<Rotated>, Problem> {
    let overlap_s = rotation.overlap_s.unwrap_or(DEFAULT_OVERLAP_S);
    if overlap_s > MAX_OVERLAP_S {
        return Err(Problem::invalid("overlap_s", format!("expected at most {MAX_OVERLAP_S} seconds")));
    }
    let shown = rotation.secret.is_none();
    let secret = rotation.secret.unwrap_or_else(sign::new_secret);
    sign::check_secret(&secret).map_err(refused)?;
    let until_ms = changing::rotate(&registry, &name, &secret, overlap_s).await?;
    let secret = shown.then(|| secret.expose_secret().to_owned());
    Ok(Json(Rotated { secret, old_secret_until_unix_ms: until_ms }))
}

/// What a test came to.
#[derive(Debug, Serialize, ToSchema)]
struct Tested {
    delivered: bool,
    /// HTTP status of the receiver; absent where it did not answer.
    status: Option<i32>,
    error: Option<String>,
}

/// Calls the receiver once with an event that says so, also where the webhook is switched off.
#[utoipa::path(post, path = "/api/v1/webhooks/{name}/test", tag = "webhooks", params(("name" = String, Path)),
    responses((status = 200, body = Tested)))]
async fn test(State(registry): State<Registry>, Path(name): Path<String>) -> Result<Json<Tested>, Problem> {
    let webhook = reading::get(&registry, &name).await?;
    let called = testing::test(&registry, &webhook, None).await?;
    Ok(Json(Tested { delivered: called.error.is_none(), status: called.status(), error: called.error }))
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DeliveryState {
    /// It waits for its first or next attempt.
    Pending,
    /// The receiver took it.
    Delivered,
    /// It was given up: a dead letter.
    Dead,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DeliveriesQuery {
    /// Only deliveries in this state.
    #[param(inline)]
    state: Option<DeliveryState>,
    /// Items wanted, 1 to 1000; 50 without it.
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// One event on its way to one webhook.
#[derive(Debug, Serialize, ToSchema)]
struct Delivery {
    id: String,
    /// Also the `webhook-id` of every attempt.
    event_id: String,
    /// Type of the event.
    event: String,
    /// `pending`, `delivered` or `dead`.
    state: String,
    attempts: i32,
    /// Only while it is pending.
    next_attempt_at_unix_ms: Option<i64>,
    /// HTTP status of the last answer; absent where there was none.
    last_status: Option<i32>,
    last_error: Option<String>,
    created_at_unix_ms: i64,
    finished_at_unix_ms: Option<i64>,
}

impl From<deliveries::Delivery> for Delivery {
    fn from(delivery: deliveries::Delivery) -> Self {
        let pending = delivery.state == "pending";
        Self {
            id: delivery.delivery_id.to_string(),
            event_id: delivery.event_id,
            event: delivery.subject,
            state: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at_unix_ms: pending.then_some(delivery.next_attempt_ms),
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            created_at_unix_ms: delivery.created_ms,
            finished_at_unix_ms: delivery.finished_ms,
        }
    }
}

/// A page of deliveries, the newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Deliveries {
    deliveries: Vec<Delivery>,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// Lists the deliveries of a webhook, the newest first; what is over is kept for 30 days.
#[utoipa::path(get, path = "/api/v1/webhooks/{name}/deliveries", tag = "webhooks",
    params(("name" = String, Path), DeliveriesQuery), responses((status = 200, body = Deliveries)))]
async fn list_deliveries(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Json<Deliveries>, Problem> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, below) = (paging.limit()?, paging.after::<i64>()?);
    let state = query.state.map(|state| match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Dead => "dead",
    });
    let found = reading::list_deliveries(&registry, &name, state, below, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |delivery| delivery.delivery_id);
    Ok(Json(Deliveries { deliveries: found.into_iter().map(Delivery::from).collect(), next_page_token }))
}

/// Deliveries that wait now.
#[derive(Debug, Serialize, ToSchema)]
struct Queued {
    queued: u64,
    /// Where there is more: ask again with this as `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_since: Option<String>,
}

/// Delivers one event once more, with its attempts counted anew.
#[utoipa::path(post, path = "/api/v1/webhooks/{name}/deliveries/{id}/replay", tag = "webhooks",
    params(("name" = String, Path), ("id" = String, Path)), responses((status = 202, body = Queued)))]
async fn replay_one(
    State(registry): State<Registry>,
    Path((name, id)): Path<(String, String)>,
) -> Result<(StatusCode, Json<Queued>), Problem> {
    let number = id.parse().map_err(|_| Problem::invalid("id", "expected a delivery's number"))?;
    replay::replay_one(&registry, &name, number).await?;
    Ok((StatusCode::ACCEPTED, Json(Queued { queued: 1, next_since: None })))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    /// RFC 3339. Events are kept for 14 days.
    #[schema(example = "2026-01-31T12:00:00Z")]
    since: String,
}

/// Delivers what happened since a moment, also what was delivered already or happened before the webhook was made.
#[utoipa::path(post, path = "/api/v1/webhooks/{name}/replay", tag = "webhooks", params(("name" = String, Path)),
    request_body = ReplayRequest, responses((status = 202, body = Queued)))]
async fn replay_since(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<ReplayRequest>,
) -> Result<(StatusCode, Json<Queued>), Problem> {
    let since = DateTime::parse_from_rfc3339(&request.since)
        .map_err(|_| Problem::invalid("since", "expected a time as in 2026-01-31T12:00:00Z"))?;
    let webhook = reading::get(&registry, &name).await?;
    let replayed = replay::replay(&registry, &webhook, SystemTime::from(since)).await?;
    Ok((StatusCode::ACCEPTED, Json(Queued { queued: replayed.queued, next_since: replayed.go_on_from })))
}
