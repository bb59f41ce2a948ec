//! Durable consumers of events: at least once, in order for one handler, acknowledged after the handler is
//! done.

use std::time::Duration;

use async_nats::jetstream::{AckKind, consumer};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{Error, EventBus};

/// A message is delivered again where its handler has not finished by then.
const ACK_WAIT_S: u64 = 30;
/// Pause before a failed message is delivered again.
const REDELIVERY_DELAY_MS: u64 = 1_000;
/// A message whose handler fails this often is given up, loudly.
const MAX_DELIVERIES: i64 = 1_000;
/// Pause before a lost subscription is made again.
const RESUBSCRIBE_DELAY_MS: u64 = 500;

/// An event as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// CloudEvents id: the same at each delivery.
    pub id: String,
    /// NATS subject, also the CloudEvents type.
    pub subject: String,
    /// What the event is about.
    pub entity: String,
    /// Trace context of the change that caused it.
    pub traceparent: Option<String>,
    /// CloudEvents time, RFC 3339; empty where the publisher gave none.
    pub time: String,
    /// The JSON body.
    pub data: bytes::Bytes,
}

impl Received {
    /// The body as its type.
    ///
    /// # Errors
    /// The body is something else.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.data)
            .map_err(|error| Error::Body { event_type: self.subject.clone(), reason: error.to_string() })
    }

    /// From a NATS message; attributes that are absent stay empty.
    pub fn from_message(message: &async_nats::Message) -> Self {
        let header = |name: &str| {
            message
                .headers
                .as_ref()
                .and_then(|headers| headers.get(name))
                .map(|value| value.as_str().to_owned())
        };
        Self {
            id: header("ce-id").unwrap_or_default(),
            subject: message.subject.to_string(),
            entity: header("ce-subject").unwrap_or_default(),
            traceparent: header(slipway_telemetry::context::TRACEPARENT),
            time: header("ce-time").unwrap_or_default(),
            data: message.payload.clone(),
        }
    }
}

pub(crate) fn pull_config(durable: &str, filter_subjects: Vec<String>) -> consumer::pull::Config {
    consumer::pull::Config {
        durable_name: Some(durable.to_owned()),
        filter_subjects,
        ack_wait: Duration::from_secs(ACK_WAIT_S),
        max_deliver: MAX_DELIVERIES,
        max_ack_pending: 64,
        ..consumer::pull::Config::default()
    }
}

/// A durable subscription.
#[derive(Debug, Clone)]
pub struct Consumer {
    bus: EventBus,
    stream: &'static str,
    durable: String,
    subjects: Vec<String>,
}

impl Consumer {
    /// `durable` names the place in the stream; two processes with one name share the messages.
    pub fn new(
        bus: EventBus,
        stream: &'static str,
        durable: impl Into<String>,
        subjects: Vec<String>,
    ) -> Self {
        Self { bus, stream, durable: durable.into(), subjects }
    }

    /// Hands each message to `handler` until `shutdown`. `Ok` acknowledges; an error is logged and the
    /// message comes again. A lost connection is mended; the place in the stream is kept by NATS.
    pub async fn run<F, R>(self, shutdown: CancellationToken, mut handler: F)
    where
        F: FnMut(Received) -> R + Send,
        R: Future<Output = Result<(), String>> + Send,
    {
        let mut complained = false;
        while !shutdown.is_cancelled() {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => break,
                outcome = self.deliver(&mut handler) => outcome,
            };
            if let Err(error) = outcome
                && !std::mem::replace(&mut complained, true)
            {
                tracing::warn!(%error, consumer = %self.durable, "subscription ended; recreating it");
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(Duration::from_millis(RESUBSCRIBE_DELAY_MS)) => {}
            }
        }
    }

    async fn deliver<F, R>(&self, handler: &mut F) -> Result<(), Error>
    where
        F: FnMut(Received) -> R + Send,
        R: Future<Output = Result<(), String>> + Send,
    {
        let stream = self.bus.jetstream().get_stream(self.stream).await.map_err(Error::nats)?;
        let config = pull_config(&self.durable, self.subjects.clone());
        let consumer = stream.get_or_create_consumer(&self.durable, config).await.map_err(Error::nats)?;
        let mut messages = consumer
            .stream()
            .max_messages_per_batch(16)
            .heartbeat(Duration::from_secs(2))
            .expires(Duration::from_secs(6))
            .messages()
            .await
            .map_err(Error::nats)?;
        while let Some(message) = messages.next().await {
            let message = message.map_err(Error::nats)?;
            let received = Received::from_message(&message);
            let (id, subject) = (received.id.clone(), received.subject.clone());
            let answer = match handler(received).await {
                Ok(()) => AckKind::Ack,
                Err(reason) => {
                    tracing::warn!(%reason, event = %id, %subject, consumer = %self.durable,
                        "event handling failed; retrying");
                    AckKind::Nak(Some(Duration::from_millis(REDELIVERY_DELAY_MS)))
                }
            };
            message.ack_with(answer).await.map_err(Error::nats)?;
        }
        Ok(())
    }
}
