//! Where requests leave their records, without waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use slipway_event_bus::EventBus;

use super::batch::fits;
use super::cloudevents::EventQueue;
use super::observation::Observation;
use super::publisher::BATCH_RECORDS;
use super::queue::Queue;
use super::sample::MAX_RECORD_BYTES;
use crate::metrics::ServingMetrics;

/// Records that may wait for the publisher.
const QUEUE_LIMIT: usize = 16 * 1024;
/// Memory that their tensors may take.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Where requests leave their records. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    pub(super) queue: Arc<Queue>,
    pub(super) metrics: ServingMetrics,
    /// Whether records are published at all: not where there is no NATS address.
    pub(super) published: bool,
    /// Without it, records are left while NATS is unreachable, too.
    pub(super) only_with: Option<EventBus>,
    /// Who wants CloudEvents, too.
    pub(super) events: Option<EventQueue>,
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

    fn drop_record(&self, observation: &Observation) {
        observation.source.feed.count_dropped(observation.counted_rows());
        self.metrics.records_dropped("queue-full", 1);
    }
}
