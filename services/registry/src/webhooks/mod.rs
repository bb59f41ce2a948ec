//! Webhooks: events over HTTP for those without NATS.
//!
//! The [`intake`] turns each event of the stream into one row a webhook that wants it; the [`worker`]s of all replicas claim rows and
//! [`send`] them until the receiver took them or they are given up. Rows outlive every process, so nothing is lost; a receiver may
//! be told twice, and knows by the id.

pub(crate) mod changing;
pub(crate) mod intake;
pub(crate) mod replay;
pub(crate) mod send;
pub(crate) mod sign;
pub(crate) mod testing;
pub(crate) mod worker;

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use slipway_domain::registry::webhook::mlflow::{self, Event};
use slipway_domain::registry::webhook::{Format, Retries, matches};
use slipway_event_bus::{EventBus, Received};
use tokio::sync::Notify;

use self::send::Sender;
use crate::store::deliveries::Told;
use crate::store::webhooks::Webhook;

/// How webhooks are called.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookConfig {
    /// Lets webhooks call private, loopback and link-local addresses. For one machine and for networks in which whoever may make a
    /// webhook may reach everything anyway.
    #[arg(long, env = "SLIPWAY_WEBHOOK_ALLOW_PRIVATE")]
    pub webhook_allow_private: bool,
    /// How long a receiver may take to answer, in milliseconds.
    #[arg(long, env = "SLIPWAY_WEBHOOK_TIMEOUT_MS", default_value_t = 10_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub webhook_timeout_ms: u64,
    /// Pause after the first attempt that failed, in milliseconds; each further one is twice as long.
    #[arg(long, env = "SLIPWAY_WEBHOOK_RETRY_INITIAL_MS", default_value_t = 5_000, value_name = "MS")]
    pub webhook_retry_initial_ms: u64,
    /// Longest pause between two attempts, in milliseconds.
    #[arg(long, env = "SLIPWAY_WEBHOOK_RETRY_MAX_MS", default_value_t = 4 * 3_600_000, value_name = "MS")]
    pub webhook_retry_max_ms: u64,
    /// Attempts before a delivery is kept as a dead letter.
    #[arg(long, env = "SLIPWAY_WEBHOOK_MAX_ATTEMPTS", default_value_t = 16, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub webhook_max_attempts: u32,
}

/// What webhooks need. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks {
    pub(crate) bus: EventBus,
    pub(crate) sender: Sender,
    pub(crate) retries: Retries,
    /// There may be something to deliver.
    pub(crate) wake: Arc<Notify>,
}

impl Webhooks {
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(config: &WebhookConfig, bus: EventBus) -> anyhow::Result<Self> {
        Ok(Self {
            bus,
            sender: Sender::new(config)?,
            retries: Retries {
                max_attempts: config.webhook_max_attempts,
                initial_ms: config.webhook_retry_initial_ms,
                max_ms: config.webhook_retry_max_ms,
            },
            wake: Arc::default(),
        })
    }
}

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
