//! What a webhook receives for an event, in each format.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use slipway_domain::registry::webhook::mlflow::{self, Event};
use slipway_domain::registry::webhook::{Format, matches};
use slipway_event_bus::Received;

use crate::store::deliveries::Told;
use crate::store::webhooks::Webhook;

/// An event as it is told to webhooks of each format.
pub(crate) struct Telling {
    cloud_event: Told,
    /// Absent where MLflow has no such event.
    mlflow: Option<(String, Told)>,
}

impl Telling {
    pub(crate) fn new(event: &Received) -> Self {
        let data: Value = serde_json::from_slice(&event.data)
            .unwrap_or_else(|_| String::from_utf8_lossy(&event.data).into_owned().into());
        let mlflow = mlflow::translate(&event.subject, &data).map(|(kind, data)| {
            let time =
                DateTime::parse_from_rfc3339(&event.time).map_or_else(|_| Utc::now(), |time| time.to_utc());
            let body = mlflow_body(kind, time, &data);
            (kind.name(), Told { event_id: event.id.clone(), subject: event.subject.clone(), body })
        });
        Self { cloud_event: cloud_event(event, &data), mlflow }
    }

    /// What a webhook is told of the event, where it wants that.
    pub(crate) fn to(&self, webhook: &Webhook) -> Option<&Told> {
        match webhook.format {
            Format::CloudEvents => {
                let subject = &self.cloud_event.subject;
                webhook.events.iter().any(|pattern| matches(pattern, subject)).then_some(&self.cloud_event)
            }
            Format::Mlflow => {
                let (kind, told) = self.mlflow.as_ref()?;
                webhook.mlflow_events.contains(kind).then_some(told)
            }
        }
    }
}

/// The body that MLflow's server sends.
pub(crate) fn mlflow_body(event: Event, time: DateTime<Utc>, data: &Value) -> String {
    let time = time.to_rfc3339_opts(SecondsFormat::Micros, false);
    json!({"entity": event.entity, "action": event.action, "timestamp": time, "data": data}).to_string()
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
