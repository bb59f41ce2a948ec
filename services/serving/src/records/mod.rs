//! Prediction records: handed over without waiting, published in batches by a task of their own.

pub(crate) mod cloudevents;
mod columns;
mod divergence;
mod encode;
pub(crate) mod non_finite;
mod pending;
mod sample;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use futures::future::join_all;
use slipway_api::predictions::{Origin, Sender, Variant, records_subject};
use slipway_event_bus::EventBus;
use slipway_inference::Tensor;
use slipway_service_kit::clock::now_unix_ms;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::cloudevents::{EventQueue, EventSender};
use self::encode::{Batch, fits, next_batch};
use self::pending::Pending;
use crate::metrics::ServingMetrics;
use crate::models::routing::Source;
pub(crate) use crate::source::Feed;
pub(crate) use crate::source::RecordPolicy;

/// Records that may wait for the publisher.
const QUEUE_LIMIT: usize = 16 * 1024;
/// Memory that their tensors may take.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Of a request with longer tensors a sample of the rows is recorded: as JSON they would not fit a message.
const MAX_RECORD_BYTES: usize = 128 * 1024;
/// Records are sent when there are this many…
const BATCH_RECORDS: usize = 1024;
/// …or when the first of them is this old.
const BATCH_AGE_MS: u64 = 100;
/// Messages of different deployments that are on their way at the same time.
const MAX_MESSAGES_IN_FLIGHT: usize = 16;
const RETRY_DELAY_MS: u64 = 250;
/// What is left is sent within this time after the shutdown began.
const FLUSH_TIMEOUT_MS: u64 = 3_000;

/// What a version saw and answered, not yet as JSON. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// The client's id, or one made for it.
    pub request_id: String,
    /// Which version ran.
    pub source: Arc<Source>,
    /// Why it ran.
    pub variant: Variant,
    /// When, Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// Time in queue and model.
    pub latency: Duration,
    /// Rows of the request.
    pub rows: u64,
    /// Rows that the tensors hold, where the request is too large to record whole; `None`: all.
    pub row_indices: Option<Arc<[u64]>>,
    /// Inputs.
    pub inputs: Arc<Vec<Tensor>>,
    /// Outputs, or why there are none.
    pub outcome: Result<Arc<Vec<Tensor>>, String>,
    /// NaN and infinities among outputs that the record goes without.
    pub non_finite_outputs: u64,
    /// For a shadow: who answered the client, and what.
    pub primary: Option<Primary>,
}

/// The answer that a shadow's is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Primary {
    /// Version that answered.
    pub source: Arc<Source>,
    /// Its answer.
    pub outputs: Arc<Vec<Tensor>>,
}

/// Where requests leave their records. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    queue: Arc<Queue>,
    metrics: ServingMetrics,
    /// Whether records are published at all: not where there is no NATS address.
    published: bool,
    /// Without it, records are left while NATS is away, too.
    only_with: Option<EventBus>,
    /// Who wants CloudEvents, too.
    events: Option<EventQueue>,
}

/// Records on their way. Requests only push; the publisher takes all at once, so that it is not woken for each.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Pending>,
    bytes: AtomicUsize,
    /// There is a first one.
    arrived: Notify,
    /// There is a batch of them.
    full: Notify,
}

/// Publishes what requests left.
#[derive(Debug)]
pub(crate) struct Publisher {
    queue: Arc<Queue>,
    metrics: ServingMetrics,
    bus: EventBus,
    replica_id: String,
    origin: Origin,
    /// Names this run of the process, so that batch 1 after a restart is not taken for batch 1 before it.
    run: Uuid,
    run_started_at_unix_ms: u64,
    batches: u64,
    /// Counted rows that were published so far, by subject.
    published_rows: HashMap<String, u64>,
    /// For the next records.
    spare: Pending,
}

/// Both ends; without a `bus` nothing is published. Where NATS is `optional`, nothing is kept for it while it is away.
pub(crate) fn channel(
    bus: Option<EventBus>,
    replica_id: String,
    metrics: ServingMetrics,
    optional: bool,
) -> (Recorder, Option<Publisher>) {
    let queue = Arc::new(Queue::default());
    let recorder = Recorder {
        queue: Arc::clone(&queue),
        metrics: metrics.clone(),
        published: bus.is_some(),
        only_with: bus.clone().filter(|_| optional),
        events: None,
    };
    let publisher = bus.map(|bus| Publisher {
        queue,
        metrics,
        bus,
        replica_id,
        origin: if optional { Origin::Folder } else { Origin::Controller },
        run: Uuid::new_v4(),
        run_started_at_unix_ms: now_unix_ms(),
        batches: 0,
        published_rows: HashMap::new(),
        spare: Pending::default(),
    });
    (recorder, publisher)
}

/// Publishes records, and events where somebody wants them, until the shutdown, and then what is left.
pub(crate) async fn send_off(
    publisher: Option<Publisher>,
    events: Option<EventSender>,
    shutdown: CancellationToken,
) {
    let records = async {
        if let Some(publisher) = publisher {
            publisher.run(shutdown.clone()).await;
        }
    };
    let events = async {
        if let Some(events) = events {
            events.run(shutdown.clone()).await;
        }
    };
    tokio::join!(records, events);
}

impl Observation {
    fn size_bytes(&self) -> usize {
        let sum = |tensors: &[Tensor]| tensors.iter().map(Tensor::size_bytes).sum::<usize>();
        let primary = self.primary.as_ref().map_or(0, |primary| sum(&primary.outputs));
        sum(&self.inputs) + self.outcome.as_ref().map_or(0, |outputs| sum(outputs)) + primary
    }

    fn latency_us(&self) -> u64 {
        u64::try_from(self.latency.as_micros()).unwrap_or(u64::MAX)
    }

    /// NaN and infinities among the outputs, recorded or not.
    fn count_non_finite(&self) -> u64 {
        self.non_finite_outputs + self.outcome.as_ref().map_or(0, |outputs| non_finite::of(outputs))
    }

    /// Rows that a client of the deployment got an answer for, as [`slipway_api::predictions::PredictionRecord::counted_rows`] has it.
    fn counted_rows(&self) -> u64 {
        let counted = matches!(self.variant, Variant::Stable | Variant::Candidate) && self.outcome.is_ok();
        if counted { self.rows } else { 0 }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Each change is one push or one take, so the records are whole after any panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Takes what waits, and leaves something empty in its place.
    fn take(&self, empty: Pending) -> Pending {
        std::mem::replace(&mut *self.lock(), empty)
    }
}

impl Recorder {
    /// The recorder, which leaves everything with `events`, too.
    pub(crate) fn with_events(self, events: Option<EventQueue>) -> Self {
        Self { events, ..self }
    }

    /// Leaves a record, or drops and counts it. Never waits.
    pub(crate) fn record(&self, mut observation: Observation) {
        if let Some(events) = &self.events {
            events.offer(&observation);
        }
        if !self.published || self.only_with.as_ref().is_some_and(|bus| !bus.is_connected()) {
            return;
        }
        let mut size = observation.size_bytes();
        if size > MAX_RECORD_BYTES || !fits(&observation, size) {
            observation = observation.sampled();
            let empty = observation.row_indices.as_ref().is_some_and(|indices| indices.is_empty());
            self.metrics.record_sampled(empty);
            size = observation.size_bytes();
        }
        let queue = &self.queue;
        if queue.bytes.fetch_add(size, Ordering::Relaxed) + size > QUEUE_BYTES {
            queue.bytes.fetch_sub(size, Ordering::Relaxed);
            return self.drop_record(&observation);
        }
        let mut waiting = queue.lock();
        if waiting.len() >= QUEUE_LIMIT {
            drop(waiting);
            queue.bytes.fetch_sub(size, Ordering::Relaxed);
            return self.drop_record(&observation);
        }
        let spent = waiting.push(observation);
        let count = waiting.len();
        drop(waiting);
        drop(spent);
        if count == 1 {
            queue.arrived.notify_one();
        } else if count == BATCH_RECORDS {
            queue.full.notify_one();
        }
    }
}

impl Recorder {
    fn drop_record(&self, observation: &Observation) {
        observation.source.feed.count_dropped(observation.counted_rows());
        self.metrics.records_dropped("queue-full", 1);
    }
}

impl Publisher {
    /// Publishes until the shutdown, then what is left, for a while.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let (metrics, queue) = (self.metrics.clone(), Arc::clone(&self.queue));
        let too_late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_millis(FLUSH_TIMEOUT_MS)).await;
        };
        tokio::select! {
            () = self.publish_all(&shutdown) => {}
            () = too_late => {
                metrics.records_dropped("shutdown", queue.lock().len().max(1));
                tracing::warn!(limit_ms = FLUSH_TIMEOUT_MS, "some prediction records were not published before the end");
            }
        }
    }

    async fn publish_all(&mut self, shutdown: &CancellationToken) {
        loop {
            if self.queue.is_empty() {
                tokio::select! {
                    () = self.queue.arrived.notified() => {}
                    () = shutdown.cancelled() => if self.queue.is_empty() { return },
                }
            }
            tokio::select! {
                () = self.queue.full.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(BATCH_AGE_MS)) => {}
                () = shutdown.cancelled() => {}
            }
            let spare = std::mem::take(&mut self.spare);
            self.publish(self.queue.take(spare)).await;
        }
    }

    async fn publish(&mut self, mut pending: Pending) {
        while !pending.is_empty() {
            // Thousands of numbers become text here, which must not hold up the threads that answer requests.
            let (replica_id, head) = (self.replica_id.clone(), self.head());
            let encoded = tokio::task::spawn_blocking(move || {
                let batches = next_messages(&replica_id, &head, &mut pending);
                (batches, pending)
            });
            let Ok((batches, rest)) = encoded.await else {
                return self.metrics.records_dropped("not-json", 1);
            };
            pending = rest;
            let messages: Vec<(String, String, Batch)> =
                batches.into_iter().map(|batch| self.addressed(batch)).collect();
            let sent = messages.iter().map(|(subject, id, batch)| self.send(subject, id, batch));
            join_all(sent).await;
            let sent_bytes: usize = messages.iter().map(|(_, _, batch)| batch.queued_bytes).sum();
            self.queue.bytes.fetch_sub(sent_bytes, Ordering::Relaxed);
        }
        self.spare = pending.recycled();
    }

    fn head(&self) -> Head {
        Head {
            sender: Sender {
                origin: self.origin,
                run: self.run.simple().to_string(),
                run_started_at_unix_ms: self.run_started_at_unix_ms,
                ..Sender::default()
            },
            published_rows: self.published_rows.clone(),
        }
    }

    /// The batch with its subject and the id of its message.
    fn addressed(&mut self, batch: Batch) -> (String, String, Batch) {
        self.batches += 1;
        let published = self.published_rows.entry(batch.subject.clone()).or_default();
        *published += batch.counted_rows;
        // A second try of a batch that did arrive is stored once.
        let message_id = format!("{}/{}/{}", self.replica_id, self.run.simple(), self.batches);
        (batch.subject.clone(), message_id, batch)
    }

    /// Sends one batch until NATS has it. While NATS is away the queue fills up, and then drops.
    async fn send(&self, subject: &str, message_id: &str, batch: &Batch) {
        loop {
            // What is published without a connection piles up in the client's memory.
            if self.bus.is_connected() {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", message_id);
                headers.insert("content-type", "application/json");
                let sent = async {
                    let stream = self.bus.jetstream();
                    stream.publish_with_headers(subject.to_owned(), headers, batch.body.clone()).await?.await
                };
                match sent.await {
                    Ok(_) => return self.metrics.records_published(batch.records),
                    Err(error) => tracing::debug!(%error, "prediction records wait for NATS"),
                }
            }
            tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)).await;
        }
    }
}

/// What the messages of a run have in common, and how many rows went before.
#[derive(Debug)]
struct Head {
    sender: Sender,
    published_rows: HashMap<String, u64>,
}

impl Head {
    /// The sender of the next message of a feed, and its subject.
    fn sender(&self, feed: &Feed) -> (String, Sender) {
        let sender = Sender { deployment_id: feed.deployment_id.clone(), ..self.sender.clone() };
        let subject = records_subject(&feed.deployment, &sender);
        let rows_before = self.published_rows.get(&subject).copied().unwrap_or(0);
        (subject, Sender { rows_before, dropped_rows: feed.dropped_rows(), ..sender })
    }
}

/// The next messages, no two of one deployment: those have to arrive in their order.
fn next_messages(replica_id: &str, head: &Head, pending: &mut Pending) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    while batches.len() < MAX_MESSAGES_IN_FLIGHT
        && let Some(feed) = pending.next_feed()
    {
        let (subject, sender) = head.sender(&feed);
        if batches.iter().any(|batch| batch.subject == subject) {
            break;
        }
        batches.push(next_batch(replica_id, subject, &sender, &feed, pending));
    }
    batches
}
