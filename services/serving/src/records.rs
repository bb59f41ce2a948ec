//! Prediction records: handed over without waiting, published in batches by a task of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use slipway_api::predictions::{Divergence, PREDICTIONS_SUBJECT, PredictionRecord, RecordedTensor, Variant};
use slipway_event_bus::EventBus;
use slipway_inference::Tensor;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::codec::json_values;
use crate::divergence;
use crate::metrics::ServingMetrics;

/// Records that may wait for the publisher.
const QUEUE_LIMIT: usize = 16 * 1024;
/// Memory that their tensors may take.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// A record of longer tensors goes without them: as JSON they would not fit a message.
const MAX_RECORD_BYTES: usize = 128 * 1024;
/// A batch is sent when it has this many records…
const BATCH_RECORDS: usize = 256;
/// …or is this old…
const BATCH_AGE_MS: u64 = 100;
/// …or is this long; NATS takes a MiB at most.
const BATCH_BYTES: usize = 768 * 1024;
const RETRY_DELAY_MS: u64 = 250;
/// What is left is sent within this time after the shutdown began.
const FLUSH_TIMEOUT_MS: u64 = 3_000;

/// What a version saw and answered, not yet as JSON.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// The client's id, or one made for it.
    pub request_id: String,
    /// Deployment that was called.
    pub deployment: String,
    /// Its model.
    pub model: String,
    /// Version that ran.
    pub version: String,
    /// Why it ran.
    pub variant: Variant,
    /// When, Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// Time in queue and model.
    pub latency: Duration,
    /// Rows of the request.
    pub rows: u64,
    /// Inputs.
    pub inputs: Arc<Vec<Tensor>>,
    /// Outputs, or why there are none.
    pub outcome: Result<Arc<Vec<Tensor>>, String>,
    /// For a shadow: who answered the client, and what.
    pub primary: Option<Primary>,
    /// Output that holds the prediction, where the table says so.
    pub prediction_output: Option<String>,
}

/// The answer that a shadow's is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Primary {
    /// Version that answered.
    pub version: String,
    /// Its answer.
    pub outputs: Arc<Vec<Tensor>>,
}

/// Where requests leave their records. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Observation>,
    queued_bytes: Arc<AtomicUsize>,
    metrics: ServingMetrics,
}

/// Publishes what requests left.
#[derive(Debug)]
pub(crate) struct Publisher {
    queue: mpsc::Receiver<Observation>,
    queued_bytes: Arc<AtomicUsize>,
    metrics: ServingMetrics,
    bus: EventBus,
    replica_id: String,
    /// Names this run of the process, so that batch 1 after a restart is not taken for batch 1 before it.
    run: Uuid,
    batches: u64,
}

/// A message for the stream.
struct Batch {
    body: Bytes,
    records: usize,
    /// Memory that its tensors take in the queue.
    queued_bytes: usize,
    without_tensors: usize,
}

/// Both ends.
pub(crate) fn channel(bus: EventBus, replica_id: String, metrics: ServingMetrics) -> (Recorder, Publisher) {
    let (sender, queue) = mpsc::channel(QUEUE_LIMIT);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let recorder =
        Recorder { queue: sender, queued_bytes: Arc::clone(&queued_bytes), metrics: metrics.clone() };
    (recorder, Publisher { queue, queued_bytes, metrics, bus, replica_id, run: Uuid::new_v4(), batches: 0 })
}

impl Observation {
    fn size_bytes(&self) -> usize {
        let sum = |tensors: &[Tensor]| tensors.iter().map(Tensor::size_bytes).sum::<usize>();
        let primary = self.primary.as_ref().map_or(0, |primary| sum(&primary.outputs));
        sum(&self.inputs) + self.outcome.as_ref().map_or(0, |outputs| sum(outputs)) + primary
    }

    fn without_tensors(mut self) -> Self {
        self.inputs = Arc::default();
        self.outcome = self.outcome.map(|_| Arc::default());
        if let Some(primary) = &mut self.primary {
            primary.outputs = Arc::default();
        }
        self
    }

    fn into_record(self) -> PredictionRecord {
        let record = |tensor: &Tensor| RecordedTensor {
            name: tensor.name.clone(),
            datatype: tensor.datatype.name().to_owned(),
            shape: tensor.shape.clone(),
            data: json_values(tensor),
        };
        let (outputs, error): (Vec<RecordedTensor>, _) = match &self.outcome {
            Ok(outputs) => (outputs.iter().map(record).collect(), None),
            Err(error) => (Vec::new(), Some(error.clone())),
        };
        let comparable =
            self.primary.as_ref().filter(|primary| error.is_none() && !primary.outputs.is_empty());
        let divergence: Option<Divergence> = comparable.map(|primary| {
            let answered: Vec<RecordedTensor> = primary.outputs.iter().map(record).collect();
            divergence::between(&answered, &outputs, self.rows, self.prediction_output.as_deref())
        });
        PredictionRecord {
            inputs: self.inputs.iter().map(record).collect(),
            rows: self.rows,
            outputs,
            error,
            divergence,
            shadow_of: self.primary.map(|primary| primary.version),
            request_id: self.request_id,
            deployment: self.deployment,
            model: self.model,
            version: self.version,
            variant: self.variant,
            at_unix_ms: self.at_unix_ms,
            latency_us: u64::try_from(self.latency.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

impl Recorder {
    /// Leaves a record, or drops and counts it. Never waits.
    pub(crate) fn record(&self, mut observation: Observation) {
        let mut size = observation.size_bytes();
        if size > MAX_RECORD_BYTES {
            self.metrics.record_without_tensors();
            observation = observation.without_tensors();
            size = 0;
        }
        if self.queued_bytes.fetch_add(size, Ordering::Relaxed) + size > QUEUE_BYTES {
            self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            return self.metrics.records_dropped("queue-full", 1);
        }
        if self.queue.try_send(observation).is_err() {
            self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            self.metrics.records_dropped("queue-full", 1);
        }
    }
}

impl Publisher {
    /// Publishes until the shutdown, then what is left, for a while.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let metrics = self.metrics.clone();
        let too_late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_millis(FLUSH_TIMEOUT_MS)).await;
        };
        tokio::select! {
            () = self.publish_all(&shutdown) => {}
            () = too_late => {
                metrics.records_dropped("shutdown", 1);
                tracing::warn!(limit_ms = FLUSH_TIMEOUT_MS, "some prediction records were not published before the end");
            }
        }
    }

    async fn publish_all(&mut self, shutdown: &CancellationToken) {
        let mut observations = Vec::with_capacity(BATCH_RECORDS);
        loop {
            if shutdown.is_cancelled() {
                self.queue.close();
            }
            let received = tokio::select! {
                received = self.queue.recv_many(&mut observations, BATCH_RECORDS) => received,
                () = shutdown.cancelled(), if !shutdown.is_cancelled() => continue,
            };
            if received == 0 {
                return;
            }
            self.gather(&mut observations, shutdown).await;
            self.publish(std::mem::take(&mut observations).into()).await;
        }
    }

    /// Waits until the batch is full or old enough.
    async fn gather(&mut self, observations: &mut Vec<Observation>, shutdown: &CancellationToken) {
        let deadline = tokio::time::sleep(Duration::from_millis(BATCH_AGE_MS));
        tokio::pin!(deadline);
        while observations.len() < BATCH_RECORDS {
            let room = BATCH_RECORDS - observations.len();
            tokio::select! {
                () = &mut deadline => return,
                () = shutdown.cancelled() => return,
                received = self.queue.recv_many(observations, room) => if received == 0 { return },
            }
        }
    }

    async fn publish(&mut self, mut observations: VecDeque<Observation>) {
        while !observations.is_empty() {
            let replica_id = self.replica_id.clone();
            // Thousands of numbers become text here, which must not hold up the threads that answer requests.
            let encoded = tokio::task::spawn_blocking(move || {
                let batch = next_batch(&replica_id, &mut observations);
                (batch, observations)
            });
            let Ok((batch, rest)) = encoded.await else {
                return self.metrics.records_dropped("not-json", 1);
            };
            observations = rest;
            for _ in 0..batch.without_tensors {
                self.metrics.record_without_tensors();
            }
            self.send(&batch).await;
            self.queued_bytes.fetch_sub(batch.queued_bytes, Ordering::Relaxed);
        }
    }

    /// Sends one batch until NATS has it. While NATS is away the queue fills up, and then drops.
    async fn send(&mut self, batch: &Batch) {
        self.batches += 1;
        // A second try of a batch that did arrive is stored once.
        let message_id = format!("{}/{}/{}", self.replica_id, self.run.simple(), self.batches);
        loop {
            // What is published without a connection piles up in the client's memory.
            if self.bus.is_connected() {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", message_id.as_str());
                headers.insert("content-type", "application/json");
                let sent = async {
                    let stream = self.bus.jetstream();
                    stream.publish_with_headers(PREDICTIONS_SUBJECT, headers, batch.body.clone()).await?.await
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

/// The next message: a [`slipway_api::predictions::PredictionBatch`] of as many records as fit. Each record is written once and
/// its length is known then, so the message is put together from their texts.
fn next_batch(replica_id: &str, observations: &mut VecDeque<Observation>) -> Batch {
    let mut body =
        format!("{{\"replica_id\":{},\"records\":[", serde_json::Value::from(replica_id)).into_bytes();
    let mut batch = Batch { body: Bytes::new(), records: 0, queued_bytes: 0, without_tensors: 0 };
    while let Some(observation) = observations.pop_front() {
        let queued_bytes = observation.size_bytes();
        let mut record = observation.clone().into_record();
        let mut json = serde_json::to_vec(&record).unwrap_or_default();
        if json.len() > BATCH_BYTES {
            record.inputs.clear();
            record.outputs.clear();
            json = serde_json::to_vec(&record).unwrap_or_default();
            batch.without_tensors += 1;
        }
        if batch.records > 0 && body.len() + json.len() > BATCH_BYTES {
            observations.push_front(observation);
            break;
        }
        if batch.records > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&json);
        batch.records += 1;
        batch.queued_bytes += queued_bytes;
    }
    body.extend_from_slice(b"]}");
    batch.body = body.into();
    batch
}
