//! `/mlflow/webhooks`: the same webhooks as those of REST v1. One made here is told in MLflow's format; one
//! made there is shown here where it is about something that MLflow has a name for.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use slipway_domain::registry::webhook::Format;
use slipway_domain::registry::{decode_page_token, encode_page_token};
use slipway_runtime::id;

use super::error::Failure;
use super::message::Message;
use super::webhook_events::{Event, validate_name, validate_secret};
use super::{Answer, Fields, answer, empty, now_ms};
use crate::state::Registry;
use crate::store::webhooks::{Update, Webhook};
use crate::webhooks::{changing, reading, sign, testing};

const DEFAULT_RESULTS: i64 = 100;
const MAX_RESULTS: i64 = 1_000;
const MAX_DESCRIPTION_CHARS: usize = 1_000;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let path = |rest: &str| format!("{prefix}/2.0/mlflow/webhooks{rest}");
    Router::new()
        .route(&path(""), post(create).get(list))
        .route(&path("/{webhook_id}"), get(by_id).patch(update).delete(delete))
        .route(&path("/{webhook_id}/test"), post(test))
}

/// MLflow's events that a webhook is about; clients cannot read one that has none.
fn events_of(webhook: &Webhook) -> Vec<Event> {
    match webhook.format {
        Format::CloudEvents => Event::covered(&webhook.events),
        Format::Mlflow => webhook.mlflow_events.iter().filter_map(|name| Event::named(name)).collect(),
    }
}

/// `Webhook`.
fn body(webhook: &Webhook) -> Option<Value> {
    let events = events_of(webhook);
    if events.is_empty() {
        return None;
    }
    let events: Vec<Value> = events
        .iter()
        .map(|event| json!({"entity": event.entity.to_uppercase(), "action": event.action.to_uppercase()}))
        .collect();
    let description = Some(&webhook.description).filter(|text| !text.is_empty());
    let message = Message::new()
        .put("webhook_id", webhook.webhook_id.clone())
        .put("name", webhook.name.clone())
        .maybe("description", description.cloned())
        .put("url", webhook.url.clone())
        .list("events", events)
        .put("status", if webhook.enabled { "ACTIVE" } else { "DISABLED" })
        .put("creation_timestamp", webhook.created_ms)
        .put("last_updated_timestamp", webhook.updated_ms);
    Some(message.into_value())
}

async fn find(registry: &Registry, id: &str) -> Result<Webhook, Failure> {
    let found = reading::find(registry, id).await?.filter(|webhook| body(webhook).is_some());
    found.ok_or_else(|| Failure::not_found(format!("Webhook with ID {id} not found.")))
}

/// The field `events`, each once; empty where absent.
fn events(fields: &mut Fields) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    for wanted in fields.messages("events")? {
        let event = event(&wanted)?;
        if !events.contains(&event) {
            events.push(event);
        }
    }
    Ok(events)
}

fn event(fields: &Fields) -> Result<Event, Failure> {
    Ok(Event::from_wire(&fields.required("entity")?, &fields.required("action")?)?)
}

/// The subjects that the events come from, and the events themselves, as they are stored.
fn stored(events: &[Event]) -> (Vec<String>, Vec<String>) {
    let mut subjects: Vec<String> =
        events.iter().filter_map(|event| event.subject.map(str::to_owned)).collect();
    subjects.sort_unstable();
    subjects.dedup();
    (subjects, events.iter().map(Event::name).collect())
}

/// The field `status`: whether it is switched on.
fn status(fields: &Fields) -> Result<Option<bool>, Failure> {
    match fields.non_empty("status")?.as_deref() {
        None => Ok(None),
        Some("ACTIVE" | "1") => Ok(Some(true)),
        Some("DISABLED" | "2") => Ok(Some(false)),
        Some(other) => {
            Err(Failure::invalid(format!("Invalid webhook status '{other}'; expected ACTIVE or DISABLED")))
        }
    }
}

fn check_url(registry: &Registry, url: &str) -> Result<(), Failure> {
    if url.trim().is_empty() {
        return Err(Failure::invalid(format!("Webhook URL cannot be empty or just whitespace: '{url}'")));
    }
    if let Some((scheme, _)) = url.split_once(':').filter(|(scheme, _)| !matches!(*scheme, "http" | "https"))
    {
        return Err(Failure::invalid(format!(
            "Invalid webhook URL scheme: '{scheme}'. Allowed schemes are: http, https."
        )));
    }
    let refused = |invalid: slipway_domain::Invalid| format!("Invalid webhook URL: {}", invalid.message);
    registry.webhooks.sender.check_url(url).map_err(|invalid| Failure::invalid(refused(invalid)))
}

fn check_description(description: &str) -> Result<(), Failure> {
    if description.chars().count() <= MAX_DESCRIPTION_CHARS {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "Webhook description is invalid. It takes at most {MAX_DESCRIPTION_CHARS} characters."
    )))
}

/// The field `secret`, of the length that it may have.
fn secret(fields: &Fields) -> Result<Option<SecretString>, Failure> {
    let Some(secret) = fields.string("secret")? else { return Ok(None) };
    validate_secret(&secret)?;
    Ok(Some(secret.into()))
}

async fn create(State(registry): State<Registry>, mut fields: Fields) -> Answer {
    let (name, url) = (fields.required("name")?, fields.required("url")?);
    validate_name(&name)?;
    check_url(&registry, &url)?;
    let events = events(&mut fields)?;
    if events.is_empty() {
        return Err(Failure::missing("events"));
    }
    let description = fields.string("description")?.unwrap_or_default();
    check_description(&description)?;
    let secret = secret(&fields)?.filter(|secret| !secret.expose_secret().is_empty());
    let (subjects, mlflow_events) = stored(&events);
    let now = now_ms();
    let webhook = Webhook {
        webhook_key: 0,
        webhook_id: id::time_ordered().to_string(),
        name,
        format: Format::Mlflow,
        url,
        description,
        events: subjects,
        mlflow_events,
        enabled: status(&fields)?.unwrap_or(true),
        disabled_reason: None,
        active_from_ms: now,
        created_ms: now,
        updated_ms: now,
    };
    changing::create(&registry, &webhook, secret.as_ref()).await?;
    Ok(answer(Message::new().maybe("webhook", body(&webhook))))
}

async fn list(State(registry): State<Registry>, fields: Fields) -> Answer {
    let limit = fields.integer("max_results")?.filter(|limit| *limit != 0).unwrap_or(DEFAULT_RESULTS);
    if !(1..=MAX_RESULTS).contains(&limit) {
        return Err(Failure::invalid(format!("max_results must be between 1 and {MAX_RESULTS}.")));
    }
    let limit = usize::try_from(limit).unwrap_or_default();
    let after = decode_page_token(&fields.string("page_token")?.unwrap_or_default())?;
    // All of them: the database does not know which ones can be shown here.
    let found = reading::newest(&registry).await?;
    let below: i64 = match after.as_deref().map(str::parse) {
        None => i64::MAX,
        Some(Ok(key)) => key,
        Some(Err(_)) => return Err(Failure::invalid("Invalid page token: it is from another list")),
    };
    let mut shown: Vec<(i64, Value)> = found
        .iter()
        .filter(|webhook| webhook.webhook_key < below)
        .filter_map(|webhook| Some((webhook.webhook_key, body(webhook)?)))
        .collect();
    let more = shown.len() > limit;
    shown.truncate(limit);
    let token = shown.last().filter(|_| more).map(|(key, _)| encode_page_token(&key.to_string()));
    let webhooks = shown.into_iter().map(|(_, body)| body).collect();
    Ok(answer(Message::new().list("webhooks", webhooks).maybe("next_page_token", token)))
}

async fn by_id(State(registry): State<Registry>, Path(id): Path<String>) -> Answer {
    Ok(answer(Message::new().maybe("webhook", body(&find(&registry, &id).await?))))
}

async fn update(State(registry): State<Registry>, Path(id): Path<String>, mut fields: Fields) -> Answer {
    let there = find(&registry, &id).await?;
    let (name, url) = (fields.non_empty("name")?, fields.non_empty("url")?);
    if let Some(name) = &name {
        validate_name(name)?;
    }
    if let Some(url) = &url {
        check_url(&registry, url)?;
    }
    let description = fields.string("description")?;
    check_description(description.as_deref().unwrap_or_default())?;
    let events = events(&mut fields)?;
    let secret = secret(&fields)?;
    if there.format == Format::CloudEvents {
        if !events.is_empty() {
            return Err(Failure::invalid(format!(
                "The webhook '{}' takes patterns of events; change them at /api/v1/webhooks/{}",
                there.name, there.name
            )));
        }
        secret.as_ref().map_or(Ok(()), sign::check_secret)?;
    }
    let (subjects, mlflow_events) = stored(&events);
    let changes = Update {
        name: name.as_deref(),
        url: url.as_deref(),
        description: description.as_deref(),
        events: (!events.is_empty()).then_some(subjects.as_slice()),
        mlflow_events: (!events.is_empty()).then_some(mlflow_events.as_slice()),
        secret: secret.as_ref(),
        enabled: status(&fields)?,
    };
    let webhook = changing::update(&registry, &there.name, &changes).await?;
    Ok(answer(Message::new().maybe("webhook", body(&webhook))))
}

async fn delete(State(registry): State<Registry>, Path(id): Path<String>) -> Answer {
    let there = find(&registry, &id).await?;
    changing::remove(&registry, &there.name).await?;
    Ok(empty())
}

async fn test(State(registry): State<Registry>, Path(id): Path<String>, fields: Fields) -> Answer {
    let asked = fields.message("event")?;
    let wanted = if asked.string("entity")?.is_some() || asked.string("action")?.is_some() {
        Some(event(&asked)?)
    } else {
        None
    };
    let webhook = find(&registry, &id).await?;
    let body = wanted.map(|event| event.test_body());
    let called = testing::test(&registry, &webhook, body).await?;
    let status = called.status();
    let failed = called.error.as_ref().filter(|_| status.is_none());
    let unanswered = failed.map(|error| format!("Failed to test webhook: {error}"));
    let result = Message::new()
        .put("success", called.error.is_none())
        .maybe("response_status", status)
        .maybe("response_body", status.map(|_| called.answer))
        // Where the receiver answered, its status and body say it all, as with MLflow.
        .maybe("error_message", unanswered);
    Ok(answer(Message::new().put("result", result)))
}
