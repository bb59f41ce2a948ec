//! Calling a receiver once, at once, with something that says that it is a test.

use chrono::{SecondsFormat, Utc};
use serde_json::json;
use slipway_domain::registry::webhook::Format;
use slipway_domain::registry::webhook::mlflow::Event;
use uuid::Uuid;

use super::payload::mlflow_body;
use super::send::{Call, Called};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::webhooks::{self as table, Webhook};

/// Type of the event that a test sends; nobody else does.
const TEST_EVENT: &str = "slipway.registry.webhook.tested";
/// Of an answer so much is shown.
pub(crate) const MAX_ANSWER_BYTES: usize = 4_096;

/// Calls the receiver, also where the webhook is switched off. In MLflow's format it is sent a sample of `event`, or of the first one
/// that the webhook is about.
///
/// # Errors
/// The webhook is gone, or Postgres is away. That the receiver did not take it is no error.
pub(crate) async fn test(
    registry: &Registry,
    webhook: &Webhook,
    event: Option<Event>,
) -> Result<Called, Error> {
    let mut db = registry.pool.acquire().await?;
    let secrets = table::webhook_secrets(&mut db, webhook.webhook_key).await?;
    drop(db);
    let secrets = secrets.ok_or_else(|| table::absent(&webhook.name))?;
    let id = Uuid::now_v7().to_string();
    let first = || webhook.mlflow_events.first().and_then(|name| Event::named(name));
    let body = match (webhook.format, event.or_else(first)) {
        (Format::Mlflow, Some(event)) => mlflow_body(event, Utc::now(), &event.sample()),
        _ => sample(&id, &webhook.name),
    };
    let call = Call {
        format: webhook.format,
        url: &webhook.url,
        secrets: &secrets,
        id: &id,
        body: &body,
        answer_bytes: MAX_ANSWER_BYTES,
    };
    Ok(registry.webhooks.sender.call(&call, now_ms()).await)
}

/// A CloudEvent.
fn sample(id: &str, name: &str) -> String {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let body = json!({
        "specversion": "1.0", "id": id, "source": "slipway/registry", "type": TEST_EVENT, "subject": name,
        "time": time, "datacontenttype": "application/json",
        "data": {"entity": "webhook", "what": "tested", "id": name, "details": {}},
    });
    body.to_string()
}
