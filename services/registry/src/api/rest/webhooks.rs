//! REST v1: webhooks and their deliveries.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use chrono::DateTime;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_api::events::catalog::catalog;
use slipway_api::rest::registry as body;
use slipway_domain::Invalid;
use slipway_domain::registry::webhook::{Format, MAX_PATTERNS, matches, validate_pattern, validate_slug};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};
use slipway_runtime::id;

use super::Answer;
use crate::clock::now_ms;
use crate::state::Registry;
use crate::store::deliveries;
use crate::store::webhooks::{self as table, Update};
use crate::webhooks::{changing, reading, replay, sign, testing};

const MAX_DESCRIPTION_CHARS: usize = 1_000;
/// The secret before signs too for so long, where nobody says otherwise.
const DEFAULT_OVERLAP_S: u32 = 24 * 3_600;
const MAX_OVERLAP_S: u32 = 30 * 24 * 3_600;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one, change, remove))
        .routes(routes!(rotate))
        .routes(routes!(test))
        .routes(routes!(list_deliveries))
        .routes(routes!(replay_one))
        .routes(routes!(replay_since))
}

fn webhook_body(webhook: table::Webhook, secret: Option<String>) -> body::Webhook {
    body::Webhook {
        id: webhook.webhook_id,
        name: webhook.name,
        format: webhook.format.name().to_owned(),
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
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks", params(PageQuery),
    responses((status = 200, body = body::WebhookPage)))]
async fn list(State(registry): State<Registry>, Query(query): Query<PageQuery>) -> Answer<body::WebhookPage> {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let found = reading::list(&registry, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |webhook| webhook.name.clone());
    let webhooks = found.into_iter().map(|webhook| webhook_body(webhook, None)).collect();
    Ok(Json(body::WebhookPage { webhooks, next_page_token }))
}

/// Makes a webhook; events that happen from now on are delivered to it.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", request_body = body::NewWebhook,
    responses((status = 201, body = body::Webhook,
        description = "Created; only this response contains `secret`, if it was generated"),
        (status = 409, description = "A webhook of this name exists, or there are too many")))]
async fn create(
    State(registry): State<Registry>,
    JsonBody(new): JsonBody<body::NewWebhook>,
) -> Result<(StatusCode, Json<body::Webhook>), Problem> {
    validate_slug(&new.name).map_err(refused)?;
    registry.webhooks.sender.check_url(&new.url).map_err(refused)?;
    check_description(&new.description)?;
    check_events(&new.events)?;
    let shown = new.secret.is_none();
    let secret = new.secret.map_or_else(sign::new_secret, SecretString::from);
    sign::check_secret(&secret).map_err(refused)?;
    let now = now_ms();
    let webhook = table::Webhook {
        webhook_key: 0,
        webhook_id: id::time_ordered().to_string(),
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
    Ok((StatusCode::CREATED, Json(webhook_body(webhook, secret))))
}

/// Shows a webhook.
#[utoipa::path(get, path = "/api/v1/webhooks/{name}", tag = "webhooks", params(("name" = String, Path)),
    responses((status = 200, body = body::Webhook)))]
async fn one(State(registry): State<Registry>, Path(name): Path<String>) -> Answer<body::Webhook> {
    Ok(Json(webhook_body(reading::get(&registry, &name).await?, None)))
}

/// Changes a webhook.
#[utoipa::path(patch, path = "/api/v1/webhooks/{name}", tag = "webhooks", params(("name" = String, Path)),
    request_body = body::WebhookUpdate, responses((status = 200, body = body::Webhook)))]
async fn change(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(update): JsonBody<body::WebhookUpdate>,
) -> Answer<body::Webhook> {
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
    Ok(Json(webhook_body(changing::update(&registry, &name, &changes).await?, None)))
}

/// Removes a webhook with its deliveries.
#[utoipa::path(delete, path = "/api/v1/webhooks/{name}", tag = "webhooks", params(("name" = String, Path)),
    responses((status = 204, description = "It is deleted")))]
async fn remove(State(registry): State<Registry>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    changing::remove(&registry, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signs with a new secret; for a while with the one before, too, except in MLflow's format, which has one
/// signature.
#[utoipa::path(post, path = "/api/v1/webhooks/{name}/rotate-secret", tag = "webhooks",
    params(("name" = String, Path)),
    request_body = body::Rotation, responses((status = 200, body = body::Rotated)))]
async fn rotate(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(rotation): JsonBody<body::Rotation>,
) -> Answer<body::Rotated> {
    let overlap_s = rotation.overlap_s.unwrap_or(DEFAULT_OVERLAP_S);
    if overlap_s > MAX_OVERLAP_S {
        return Err(Problem::invalid("overlap_s", format!("expected at most {MAX_OVERLAP_S} seconds")));
    }
    let shown = rotation.secret.is_none();
    let secret = rotation.secret.map_or_else(sign::new_secret, SecretString::from);
    sign::check_secret(&secret).map_err(refused)?;
    let until_ms = changing::rotate(&registry, &name, &secret, overlap_s).await?;
    let secret = shown.then(|| secret.expose_secret().to_owned());
    Ok(Json(body::Rotated { secret, old_secret_until_unix_ms: until_ms }))
}

/// Calls the receiver once with an event that says so, also where the webhook is switched off.
#[utoipa::path(post, path = "/api/v1/webhooks/{name}/test", tag = "webhooks", params(("name" = String, Path)),
    responses((status = 200, body = body::Tested)))]
async fn test(State(registry): State<Registry>, Path(name): Path<String>) -> Answer<body::Tested> {
    let webhook = reading::get(&registry, &name).await?;
    let called = testing::test(&registry, &webhook, None).await?;
    Ok(Json(body::Tested { delivered: called.error.is_none(), status: called.status(), error: called.error }))
}

fn delivery_body(delivery: deliveries::Delivery) -> body::Delivery {
    let pending = delivery.state == "pending";
    body::Delivery {
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

/// Lists the deliveries of a webhook, the newest first; what is over is kept for 30 days.
#[utoipa::path(get, path = "/api/v1/webhooks/{name}/deliveries", tag = "webhooks",
    params(("name" = String, Path), body::DeliveriesQuery),
    responses((status = 200, body = body::DeliveryPage)))]
async fn list_deliveries(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(query): Query<body::DeliveriesQuery>,
) -> Answer<body::DeliveryPage> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, below) = (paging.limit()?, paging.after::<i64>()?);
    let state = query.state.map(body::DeliveryState::name);
    let found = reading::list_deliveries(&registry, &name, state, below, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |delivery| delivery.delivery_id);
    Ok(Json(body::DeliveryPage {
        deliveries: found.into_iter().map(delivery_body).collect(),
        next_page_token,
    }))
}

/// Delivers one event once more, with its attempts counted from zero.
#[utoipa::path(post, path = "/api/v1/webhooks/{name}/deliveries/{id}/replay", tag = "webhooks",
    params(("name" = String, Path), ("id" = String, Path)), responses((status = 202, body = body::Queued)))]
async fn replay_one(
    State(registry): State<Registry>,
    Path((name, id)): Path<(String, String)>,
) -> Result<(StatusCode, Json<body::Queued>), Problem> {
    let number = id.parse().map_err(|_| Problem::invalid("id", "expected a delivery's number"))?;
    replay::replay_one(&registry, &name, number).await?;
    Ok((StatusCode::ACCEPTED, Json(body::Queued { queued: 1, next_since: None })))
}

/// Delivers what happened since a moment, also what was delivered already or happened before the webhook was
/// made.
#[utoipa::path(post, path = "/api/v1/webhooks/{name}/replay", tag = "webhooks",
    params(("name" = String, Path)),
    request_body = body::ReplayRequest, responses((status = 202, body = body::Queued)))]
async fn replay_since(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<body::ReplayRequest>,
) -> Result<(StatusCode, Json<body::Queued>), Problem> {
    let since = DateTime::parse_from_rfc3339(&request.since)
        .map_err(|_| Problem::invalid("since", "expected a time as in 2026-01-31T12:00:00Z"))?;
    let webhook = reading::get(&registry, &name).await?;
    let replayed = replay::replay(&registry, &webhook, SystemTime::from(since)).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(body::Queued { queued: replayed.queued, next_since: replayed.go_on_from }),
    ))
}
