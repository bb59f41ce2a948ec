//! Requests and answers as CloudEvents, as KServe's logger sends them, for those who consume these.
//!
//! They come from the same observations as prediction records, sampled and redacted alike, go into a bounded
//! queue of their own, and are dropped and counted if the sink is slower. Copies for shadows are
//! none of a client's requests and are left out.

mod config;
mod event;
mod http;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::HeaderMap as NatsHeaders;
use futures::{StreamExt as _, stream};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use slipway_event_bus::EventBus;
use slipway_service_kit::metrics::Metrics;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::config::{CloudEventsConfig, EventsMode};
use self::event::{Event, Message, Origin, STRUCTURED};
use self::http::HttpSink;
use super::observation::Observation;

/// Observations that may wait.
const QUEUE_LIMIT: usize = 16 * 1024;
/// Memory that their tensors may take.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Tensors of a longer request and answer are not sent.
const MAX_EVENT_BYTES: usize = 512 * 1024;
/// Once there is a first one, more are waited for so long, so that requests do not wake the sender one by
/// one…
const COLLECT_MS: u64 = 10;
/// …unless there are so many. The events of no more are made at a time.
const BATCH_OBSERVATIONS: usize = 1024;
/// Nor are more made once their tensors take so much.
const BATCH_BYTES: usize = 256 * 1024;
/// Events that are on their way to an HTTP address at the same time.
const PARALLEL_POSTS: usize = 8;
/// What is left is sent within this time after the last request.
const FLUSH_TIMEOUT_MS: u64 = 3_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, Default)]
struct EventMetrics {
    sent: Counter,
    dropped: Family<ReasonLabels, Counter>,
    file_errors: Counter,
}

impl EventMetrics {
    fn dropped(&self, reason: &'static str, observations: usize) {
        self.dropped.get_or_create(&ReasonLabels { reason }).inc_by(observations as u64);
    }
}

/// Where requests leave what becomes events. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EventQueue {
    waiting: mpsc::Sender<Observation>,
    bytes: Arc<AtomicUsize>,
    metrics: EventMetrics,
}

/// Sends what requests left.
#[derive(Debug)]
pub(crate) struct EventSender {
    waiting: mpsc::Receiver<Observation>,
    bytes: Arc<AtomicUsize>,
    sending: Arc<Sending>,
}

#[derive(Debug)]
struct Sending {
    sink: Sink,
    origin: Arc<Origin>,
    mode: EventsMode,
    metrics: EventMetrics,
    /// Whether the last one arrived: the log says when that changes.
    arrives: AtomicBool,
}

#[derive(Debug)]
enum Sink {
    Http(HttpSink),
    Nats { bus: Box<EventBus>, subject: String },
}

/// Both ends; `None` if no sink is set.
///
/// # Errors
/// The address is no HTTP address, a file of it cannot be used, or the subject is none that can be published
/// to.
pub(crate) fn channel(
    config: &CloudEventsConfig,
    bus: Option<&EventBus>,
    replica_id: &str,
    metrics: &Metrics,
) -> anyhow::Result<Option<(EventQueue, EventSender)>> {
    let counted = EventMetrics::default();
    let sink = match (&config.cloudevents_url, &config.cloudevents_subject) {
        (Some(url), _) => Sink::Http(HttpSink::new(url, config, counted.file_errors.clone())?),
        (None, Some(subject)) => {
            let bus =
                bus.context("--cloudevents-subject needs a NATS address (--nats-url or SLIPWAY_NATS_URL)")?;
            Sink::nats(bus, subject)?
        }
        (None, None) => return Ok(None),
    };
    metrics.register(
        "serving_cloudevents_sent",
        "Requests and answers sent as CloudEvents",
        counted.sent.clone(),
    );
    let dropped = "Requests and answers that were not sent as CloudEvents";
    metrics.register("serving_cloudevents_dropped", dropped, counted.dropped.clone());
    let errors = "Invalid changes of the files of the CloudEvents sink";
    metrics.register("serving_cloudevents_file_errors", errors, counted.file_errors.clone());
    let origin = Origin {
        source: format!("/slipway/serving/{replica_id}"),
        namespace: config.cloudevents_namespace.clone(),
    };
    let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
    let bytes = Arc::new(AtomicUsize::new(0));
    let queue = EventQueue { waiting: sender, bytes: Arc::clone(&bytes), metrics: counted.clone() };
    let sending = Sending {
        sink,
        origin: Arc::new(origin),
        mode: config.cloudevents_mode,
        metrics: counted,
        arrives: AtomicBool::new(true),
    };
    Ok(Some((queue, EventSender { waiting: receiver, bytes, sending: Arc::new(sending) })))
}

impl EventQueue {
    /// Leaves an observation, or drops and counts it. Never waits.
    pub(crate) fn offer(&self, observation: &Observation) {
        if observation.primary.is_some() {
            return;
        }
        let size = observation.size_bytes();
        if size > MAX_EVENT_BYTES {
            return self.metrics.dropped("too-large", 1);
        }
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size > QUEUE_BYTES
            || self.waiting.try_send(observation.clone()).is_err()
        {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            self.metrics.dropped("queue-full", 1);
        }
    }
}

impl EventSender {
    /// The HTTP address, whose files want to be followed.
    pub(crate) fn http(&self) -> Option<HttpSink> {
        match &self.sending.sink {
            Sink::Http(sink) => Some(sink.clone()),
            Sink::Nats { .. } => None,
        }
    }

    /// Sends until the shutdown, then what is left, for a while.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let too_late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_millis(FLUSH_TIMEOUT_MS)).await;
        };
        tokio::select! {
            () = self.send_all(&shutdown) => {}
            () = too_late => {
                tracing::warn!(limit_ms = FLUSH_TIMEOUT_MS, "CloudEvents not sent before shutdown");
            }
        }
    }

    async fn send_all(self, shutdown: &CancellationToken) {
        let (sending, parallel) = (Arc::clone(&self.sending), self.sending.sink.parallel());
        let batches = stream::unfold(self, |mut sender| async move {
            let batch = sender.next_batch(shutdown).await?;
            Some((sender.sending.events(batch).await, sender))
        });
        let events = batches.flat_map(stream::iter);
        events.for_each_concurrent(parallel, |event| sending.send(event)).await;
    }

    /// What waits, as far as it is taken at once; `None` once there is nothing and nothing more comes.
    async fn next_batch(&mut self, shutdown: &CancellationToken) -> Option<Vec<Observation>> {
        let first = tokio::select! {
            biased;
            first = self.waiting.recv() => first,
            () = shutdown.cancelled() => {
                // Nothing more comes in; what is there comes out.
                self.waiting.close();
                self.waiting.recv().await
            }
        };
        let mut batch = vec![first?];
        if self.waiting.len() < BATCH_OBSERVATIONS {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(COLLECT_MS)) => {}
                () = shutdown.cancelled() => {}
            }
        }
        let mut bytes = batch[0].size_bytes();
        while batch.len() < BATCH_OBSERVATIONS && bytes < BATCH_BYTES {
            let Ok(next) = self.waiting.try_recv() else { break };
            bytes += next.size_bytes();
            batch.push(next);
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(batch)
    }
}

impl Sending {
    async fn events(&self, batch: Vec<Observation>) -> Vec<Message> {
        let (origin, mode) = (Arc::clone(&self.origin), self.mode);
        let (in_headers, observations) = (matches!(self.sink, Sink::Http(_)), batch.len());
        // Thousands of numbers become text here, which must not hold up the threads that answer requests.
        let made = tokio::task::spawn_blocking(move || {
            let of_one = |observation| {
                let request = (mode != EventsMode::Response).then(|| Event::request(&origin, observation));
                let response = (mode != EventsMode::Request).then(|| Event::response(&origin, observation));
                [request, response.flatten()]
            };
            let events = batch.iter().flat_map(of_one).flatten();
            events.map(|event| if in_headers { event.binary() } else { event.structured() }).collect()
        });
        made.await.unwrap_or_else(|_panicked| {
            self.metrics.dropped("not-json", observations);
            Vec::new()
        })
    }

    async fn send(&self, message: Message) {
        let arrived = self.sink.take(message).await;
        if arrived.is_ok() {
            self.metrics.sent.inc();
        } else {
            self.metrics.dropped("undelivered", 1);
        }
        if self.arrives.swap(arrived.is_ok(), Ordering::Relaxed) != arrived.is_ok() {
            match arrived {
                Ok(()) => tracing::info!("CloudEvents delivered again"),
                Err(reason) => tracing::warn!(reason, "CloudEvents undelivered; dropping them"),
            }
        }
    }
}

impl Sink {
    fn nats(bus: &EventBus, subject: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            is_subject(subject),
            "`{subject}` (--cloudevents-subject): expected tokens separated by dots, without spaces, `*` and \
             `>`"
        );
        Ok(Self::Nats { bus: Box::new(bus.clone()), subject: subject.to_owned() })
    }

    /// Messages that it takes at the same time. NATS only queues them, in their order.
    fn parallel(&self) -> usize {
        match self {
            Self::Http(_) => PARALLEL_POSTS,
            Self::Nats { .. } => 1,
        }
    }

    async fn take(&self, Message { headers, body }: Message) -> Result<(), String> {
        match self {
            Self::Http(sink) => sink.post(headers, body).await,
            Self::Nats { bus, subject } => {
                // What is published without a connection piles up in the client's memory.
                if !bus.is_connected() {
                    return Err("NATS is unreachable".to_owned());
                }
                let mut headers = NatsHeaders::new();
                headers.insert("content-type", STRUCTURED);
                let published = bus.client().publish_with_headers(subject.clone(), headers, body).await;
                published.map_err(|error| error.to_string())
            }
        }
    }
}

/// Whether a message can be published there.
fn is_subject(text: &str) -> bool {
    let lawful =
        |letter: char| !letter.is_whitespace() && !letter.is_control() && !matches!(letter, '*' | '>');
    text.split('.').all(|word| !word.is_empty() && word.chars().all(lawful))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_published_to_is_a_subject() {
        assert!(is_subject("events") && is_subject("slipway.events-1.all"));
        for no in ["", "a b", "a..b", ".a", "a.", "a.*", "a.>", "a\r\nPUB b"] {
            assert!(!is_subject(no), "{no:?}");
        }
    }
}
