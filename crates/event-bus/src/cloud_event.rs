//! Events on their way out: CloudEvents, with the attributes as headers.
//!
//! Source: <https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md>.

use std::future::IntoFuture as _;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishAckFuture;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use slipway_api::events::EventBody;
use slipway_runtime::clock;
use slipway_telemetry::context::TRACEPARENT;
use uuid::Uuid;

use crate::{Error, EventBus};

/// An event to publish.
#[derive(Debug, Clone)]
pub struct CloudEvent<'event> {
    /// The same for each attempt, so that JetStream stores the event once.
    pub id: Uuid,
    /// CloudEvents source, e.g. `slipway/registry`.
    pub source: &'event str,
    /// NATS subject, which is also the CloudEvents type.
    pub subject: &'event str,
    /// Name or id of the entity that the event is about.
    pub entity: &'event str,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// W3C trace context of what caused it.
    pub traceparent: Option<&'event str>,
    /// The body, as JSON.
    pub data: Bytes,
}

impl CloudEvent<'_> {
    fn headers(&self) -> HeaderMap {
        let id = self.id.to_string();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        headers.insert("ce-specversion", "1.0");
        headers.insert("ce-id", id.as_str());
        headers.insert("ce-source", self.source);
        headers.insert("ce-type", self.subject);
        headers.insert("ce-subject", self.entity.replace(['\r', '\n'], " ").as_str());
        headers.insert("ce-time", self.time.to_rfc3339_opts(SecondsFormat::Millis, true).as_str());
        headers.insert("content-type", "application/json");
        if let Some(traceparent) = self.traceparent {
            headers.insert(TRACEPARENT, traceparent);
        }
        headers
    }
}

/// An event that was sent and not yet acknowledged.
#[derive(Debug)]
pub struct Publishing(PublishAckFuture);

impl Publishing {
    /// Waits until JetStream has stored the event.
    ///
    /// # Errors
    /// NATS is unreachable or rejects the event.
    pub async fn stored(self) -> Result<(), Error> {
        self.0.into_future().await.map(|_| ()).map_err(Error::nats)
    }
}

impl EventBus {
    /// Sends an event. Several may be sent before the first is acknowledged; they are stored in their order.
    ///
    /// # Errors
    /// NATS is unreachable.
    pub async fn publish(&self, event: CloudEvent<'_>) -> Result<Publishing, Error> {
        let (subject, headers) = (event.subject.to_owned(), event.headers());
        let sent = self.jetstream().publish_with_headers(subject, headers, event.data).await;
        sent.map(Publishing).map_err(Error::nats)
    }

    /// Publishes an event of a service without a database, and waits until JetStream has stored it; the
    /// caller tries again where that fails.
    ///
    /// # Errors
    /// NATS is unreachable or rejects the event.
    pub async fn publish_event<E: EventBody>(&self, source: &str, id: Uuid, event: &E) -> Result<(), Error> {
        let subject = event.subject();
        let data = serde_json::to_vec(event)
            .map_err(|error| Error::Body { event_type: subject.clone(), reason: error.to_string() })?;
        let (entity, time) = (event.entity(), clock::now().into());
        let event = CloudEvent {
            id,
            source,
            subject: &subject,
            entity: &entity,
            time,
            traceparent: None,
            data: data.into(),
        };
        self.publish(event).await?.stored().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> CloudEvent<'static> {
        CloudEvent {
            id: Uuid::from_u128(7),
            source: "slipway/test",
            subject: "slipway.registry.alias.set",
            entity: "m@a",
            time: DateTime::from_timestamp_millis(1_700_000_000_123).unwrap_or_default(),
            traceparent: Some("00-aa-bb-01"),
            data: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn attributes_are_headers_with_their_standard_names() {
        let headers = event().headers();
        let value = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        for (name, expected) in [
            ("Nats-Msg-Id", "00000000-0000-0000-0000-000000000007"),
            ("ce-id", "00000000-0000-0000-0000-000000000007"),
            ("ce-specversion", "1.0"),
            ("ce-source", "slipway/test"),
            ("ce-type", "slipway.registry.alias.set"),
            ("ce-subject", "m@a"),
            ("ce-time", "2023-11-14T22:13:20.123Z"),
            ("content-type", "application/json"),
            ("traceparent", "00-aa-bb-01"),
        ] {
            assert_eq!(value(name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_name_with_line_breaks_adds_no_header() {
        let headers = CloudEvent { entity: "m\r\nce-id: forged", traceparent: None, ..event() }.headers();
        assert_eq!(headers.get("ce-subject").map(|value| value.as_str()), Some("m  ce-id: forged"));
        assert!(headers.get("traceparent").is_none());
    }
}
