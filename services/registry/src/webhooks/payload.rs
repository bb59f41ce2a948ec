//! What a webhook receives for an event, in each format.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use slipway_domain::registry::webhook::{Format, matches};
use slipway_event_bus::Received;
use slipway_runtime::clock;

use super::dialect::Dialect;
use crate::store::deliveries::Told;
use crate::store::webhooks::Webhook;

/// An event as it is told to webhooks of each format.
pub(crate) struct Telling {
    cloud_event: Told,
    /// Name and payload in the other format; `None` if that has no such event.
    dialect: Option<(String, Told)>,
}

impl Telling {
    pub(crate) fn new(event: &Received, dialect: &Dialect) -> Self {
        let data: Value = serde_json::from_slice(&event.data)
            .unwrap_or_else(|_| String::from_utf8_lossy(&event.data).into_owned().into());
        let time = DateTime::parse_from_rfc3339(&event.time)
            .map_or_else(|_| DateTime::<Utc>::from(clock::now()), |time| time.to_utc());
        let dialect = (dialect.payload)(&event.subject, time, &data).map(|(name, body)| {
            (name, Told { event_id: event.id.clone(), subject: event.subject.clone(), body })
        });
        Self { cloud_event: cloud_event(event, &data), dialect }
    }

    /// What a webhook is told of the event, where it wants that.
    pub(crate) fn to(&self, webhook: &Webhook) -> Option<&Told> {
        match webhook.format {
            Format::CloudEvents => {
                let subject = &self.cloud_event.subject;
                webhook.events.iter().any(|pattern| matches(pattern, subject)).then_some(&self.cloud_event)
            }
            Format::Mlflow => {
                let (kind, told) = self.dialect.as_ref()?;
                webhook.mlflow_events.contains(kind).then_some(told)
            }
        }
    }
}

/// A CloudEvent in structured mode.
fn cloud_event(event: &Received, data: &Value) -> Told {
    let mut body = json!({
        "specversion": "1.0", "id": event.id, "source": source(&event.subject), "type": event.subject,
        "subject": event.entity, "time": event.time, "datacontenttype": "application/json", "data": data,
    });
    if let Some(traceparent) = &event.traceparent {
        body["traceparent"] = traceparent.as_str().into();
    }
    Told { event_id: event.id.clone(), subject: event.subject.clone(), body: body.to_string() }
}

/// The service that tells of it, as in the event's own `source`.
fn source(subject: &str) -> String {
    format!("slipway/{}", subject.split('.').nth(1).unwrap_or_default())
}
