//! Calling a receiver once, at once, with something that says that it is a test.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;
use slipway_domain::registry::webhook::Format;
use slipway_runtime::{clock, id};

use super::send::{Call, Called};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::webhooks::{self as table, Webhook};

/// Type of the event that a test sends; nobody else does.
const TEST_EVENT: &str = "slipway.registry.webhook.tested";
/// Of an answer so much is shown.
pub(crate) const MAX_ANSWER_BYTES: usize = 4_096;

/// Calls the receiver, also where the webhook is disabled. In the format besides CloudEvents it receives
/// `body`, or a sample of the first event that the webhook is about.
///
/// # Errors
/// The webhook is gone, or Postgres is unreachable. That the receiver did not take it is no error.
pub(crate) async fn test(
    registry: &Registry,
    webhook: &Webhook,
    body: Option<String>,
) -> Result<Called, Error> {
    let mut db = registry.pool.acquire().await?;
    let secrets = table::webhook_secrets(&mut db, webhook.webhook_key).await?;
    drop(db);
    let secrets = secrets.ok_or_else(|| table::absent(&webhook.name))?;
    let id = id::time_ordered().to_string();
    let first = || (registry.webhooks.dialect.sample)(webhook.mlflow_events.first()?);
    let body = match (webhook.format, body.or_else(first)) {
        (Format::Mlflow, Some(body)) => body,
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
    let time = DateTime::<Utc>::from(clock::now()).to_rfc3339_opts(SecondsFormat::Millis, true);
    let body = json!({
        "specversion": "1.0", "id": id, "source": "slipway/registry", "type": TEST_EVENT, "subject": name,
        "time": time, "datacontenttype": "application/json",
        "data": {"entity": "webhook", "what": "tested", "id": name, "details": {}},
    });
    body.to_string()
}
