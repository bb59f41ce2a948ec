//! Durable consumers of events: at least once, in order for one handler, acknowledged after the handler is
//! done. A message whose handler failed, or that was on its way to a replica that ends, comes after later
//! ones.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{AckKind, Message, consumer};
use futures::{FutureExt as _, StreamExt as _};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::liveness::jittered;
use crate::{Error, EventBus};

/// A message is delivered again, to another replica, where nothing is heard of it for this long: its replica
/// hangs or is gone.
const ACK_WAIT_S: u64 = 5;
/// How often NATS is told that messages are being worked on, or wait for their turn.
const PROGRESS_INTERVAL_MS: u64 = 1_500;
/// A request for messages is in force this long: one of a replica that hangs takes none afterwards.
const REQUEST_MS: u64 = 4_000;
/// NATS says this often that a request is still in force.
const HEARTBEAT_MS: u64 = 1_900;
/// Messages that one request asks for.
const BATCH: usize = 16;
/// Messages of a subscription that are not acknowledged yet.
const MAX_PENDING: usize = 64;
/// Redelivery delay of the first message that is given back; the others have twice this delay. NATS offers
/// the first one to the abandoned pull request and then moves it to the end of the redelivery queue.
const GIVE_BACK_DELAY_MS: u64 = 100;
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
        max_ack_pending: MAX_PENDING as i64,
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
    /// message comes again. A lost connection is mended; the place in the stream is kept by NATS. Messages
    /// that were taken and are not answered are given back, for other replicas.
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
                () = tokio::time::sleep(jittered(RESUBSCRIBE_DELAY_MS)) => {}
            }
        }
    }

    async fn deliver<F, R>(&self, handler: &mut F) -> Result<(), Error>
    where
        F: FnMut(Received) -> R + Send,
        R: Future<Output = Result<(), String>> + Send,
    {
        let consumer = self.subscribe().await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .heartbeat(Duration::from_millis(HEARTBEAT_MS))
            .expires(Duration::from_millis(REQUEST_MS))
            .messages()
            .await
            .map_err(Error::nats)?;
        let mut progress = tokio::time::interval(Duration::from_millis(PROGRESS_INTERVAL_MS));
        progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut taken = Taken { messages: Some(messages), waiting: VecDeque::new() };
        loop {
            let Taken { messages: Some(messages), waiting } = &mut taken else { return Ok(()) };
            if waiting.is_empty() {
                let Some(message) = messages.next().await else { return Ok(()) };
                waiting.push_back(message.map_err(Error::nats)?);
            }
            let Some(message) = waiting.front() else { continue };
            let received = Received::from_message(message);
            let (id, subject) = (received.id.clone(), received.subject.clone());
            let handling = handler(received);
            tokio::pin!(handling);
            let mut ended = None;
            let handled = loop {
                tokio::select! {
                    handled = &mut handling => break handled,
                    // Those that wait are taken, too, so that they are not delivered again meanwhile.
                    next = messages.next(), if ended.is_none() && waiting.len() < MAX_PENDING => match next {
                        Some(Ok(message)) => waiting.push_back(message),
                        Some(Err(error)) => ended = Some(Err(Error::nats(error))),
                        None => ended = Some(Ok(())),
                    },
                    _ = progress.tick() => for message in waiting.iter() {
                        message.ack_with(AckKind::Progress).await.map_err(Error::nats)?;
                    },
                }
            };
            let answer = match handled {
                Ok(()) => AckKind::Ack,
                Err(reason) => {
                    tracing::warn!(%reason, event = %id, %subject, consumer = %self.durable,
                        "event handling failed; retrying");
                    AckKind::Nak(Some(Duration::from_millis(REDELIVERY_DELAY_MS)))
                }
            };
            if let Some(message) = waiting.pop_front() {
                message.ack_with(answer).await.map_err(Error::nats)?;
            }
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// The durable consumer: made where it does not exist; one that an earlier version made gets the present
    /// limits and keeps its filters.
    async fn subscribe(&self) -> Result<consumer::PullConsumer, Error> {
        let stream = self.bus.jetstream().get_stream(self.stream).await.map_err(Error::nats)?;
        let wanted = pull_config(&self.durable, self.subjects.clone());
        let ack_wait = wanted.ack_wait;
        let found = stream.get_or_create_consumer(&self.durable, wanted).await.map_err(Error::nats)?;
        let config = &found.cached_info().config;
        if config.ack_wait == ack_wait {
            return Ok(found);
        }
        let current = pull_config(&self.durable, filters(config));
        stream.create_consumer(current).await.map_err(Error::nats)
    }
}

/// Messages that a replica has taken and not answered. Dropped, at a shutdown or because another replica
/// leads, they are given back, and are delivered again now instead of after [`ACK_WAIT_S`].
struct Taken {
    messages: Option<pull::Stream>,
    /// The first one is being handled.
    waiting: VecDeque<Message>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let (messages, mut waiting) = (self.messages.take(), std::mem::take(&mut self.waiting));
        // Without a runtime, the process ends.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        slipway_runtime::task::detached("give-back", async move {
            if let Some(mut messages) = messages {
                while let Some(Some(Ok(message))) = messages.next().now_or_never() {
                    waiting.push_back(message);
                }
            }
            for (index, message) in waiting.into_iter().enumerate() {
                let again = Duration::from_millis(GIVE_BACK_DELAY_MS * if index == 0 { 1 } else { 2 });
                if let Err(error) = message.ack_with(AckKind::Nak(Some(again))).await {
                    tracing::debug!(%error, "messages are not given back; they are delivered again later");
                    return;
                }
            }
        });
    }
}

/// The subjects that a consumer gets, sorted.
pub(crate) fn filters(config: &consumer::Config) -> Vec<String> {
    let mut filters = config.filter_subjects.clone();
    if !config.filter_subject.is_empty() {
        filters.push(config.filter_subject.clone());
    }
    filters.sort_unstable();
    filters
}
