//! Publishes what requests left, in messages of many records.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::HeaderMap;
use futures::future::join_all;
use slipway_api::predictions::{Origin, Sender};
use slipway_event_bus::EventBus;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::batch::{Batch, Head, next_messages};
use super::pending::Pending;
use super::queue::Queue;
use crate::metrics::ServingMetrics;

/// Records are sent when there are this many…
pub(super) const BATCH_RECORDS: usize = 1024;
/// …or when the first of them is this old.
const BATCH_AGE_MS: u64 = 100;
const RETRY_DELAY_MS: u64 = 250;
/// What is left is sent within this time after the shutdown began.
const FLUSH_TIMEOUT_MS: u64 = 3_000;

/// Publishes what requests left.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(super) queue: Arc<Queue>,
    pub(super) metrics: ServingMetrics,
    pub(super) bus: EventBus,
    pub(super) replica_id: String,
    pub(super) origin: Origin,
    /// Names this run of the process, so that batch 1 after a restart is not taken for batch 1 before it.
    pub(super) run: Uuid,
    pub(super) run_started_at_unix_ms: u64,
    pub(super) batches: u64,
    /// Counted rows that were published so far, by subject.
    pub(super) published_rows: HashMap<String, u64>,
    /// For the next records.
    pub(super) spare: Pending,
}

/// A batch on its way to the stream.
struct Message {
    /// `Nats-Msg-Id`: the stream keeps one message of an id.
    id: String,
    batch: Batch,
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
                tracing::warn!(limit_ms = FLUSH_TIMEOUT_MS, "prediction records not published before \
                    shutdown");
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
            let messages: Vec<Message> = batches.into_iter().map(|batch| self.numbered(batch)).collect();
            join_all(messages.iter().map(|message| self.send(message))).await;
            let sent_bytes: usize = messages.iter().map(|message| message.batch.queued_bytes).sum();
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

    /// The batch with the id of its message.
    fn numbered(&mut self, batch: Batch) -> Message {
        self.batches += 1;
        let published = self.published_rows.entry(batch.subject.clone()).or_default();
        *published += batch.counted_rows;
        // A second try of a batch that did arrive is stored once.
        let id = format!("{}/{}/{}", self.replica_id, self.run.simple(), self.batches);
        Message { id, batch }
    }

    /// Sends one batch until NATS has it. While NATS is unreachable the queue fills up, and then drops.
    async fn send(&self, Message { id, batch }: &Message) {
        loop {
            // What is published without a connection piles up in the client's memory.
            if self.bus.is_connected() {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", id.as_str());
                headers.insert("content-type", "application/json");
                let sent = async {
                    let stream = self.bus.jetstream();
                    stream
                        .publish_with_headers(batch.subject.clone(), headers, batch.body.clone())
                        .await?
                        .await
                };
                match sent.await {
                    Ok(_) => return self.metrics.records_published(batch.records),
                    Err(error) => tracing::debug!(%error, "prediction records queued: NATS unreachable"),
                }
            }
            tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)).await;
        }
    }
}
