//! Events of services without a database: published at once, and again by the caller where that fails.

use async_nats::HeaderMap;
use chrono::{SecondsFormat, Utc};
use slipway_api::events::EventBody;
use uuid::Uuid;

use crate::{Error, EventBus};

impl EventBus {
    /// Publishes an event and waits until JetStream has stored it. `source` is the CloudEvents source, e.g. `slipway/serving`; `id` stays
    /// the same for each attempt, so that the event is stored once.
    ///
    /// # Errors
    /// NATS is unreachable or refuses it.
    pub async fn publish_event<E: EventBody>(&self, source: &str, id: Uuid, event: &E) -> Result<(), Error> {
        let subject = event.subject();
        let body = serde_json::to_vec(event)
            .map_err(|error| Error::Body { event_type: subject.clone(), reason: error.to_string() })?;
        let id = id.to_string();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        headers.insert("ce-specversion", "1.0");
        headers.insert("ce-id", id.as_str());
        headers.insert("ce-source", source);
        headers.insert("ce-type", subject.as_str());
        headers.insert("ce-subject", event.entity().replace(['\r', '\n'], " ").as_str());
        headers.insert("ce-time", Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true).as_str());
        headers.insert("content-type", "application/json");
        let published = self.jetstream().publish_with_headers(subject, headers, body.into()).await;
        published.map_err(Error::nats)?.await.map_err(Error::nats)?;
        Ok(())
    }
}
