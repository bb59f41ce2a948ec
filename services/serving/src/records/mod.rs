//! Prediction records: handed over without waiting, published in batches by a task of their own.

mod batch;
mod bounds;
pub(crate) mod cloudevents;
mod columns;
mod divergence;
mod json;
pub(crate) mod non_finite;
mod observation;
mod pending;
mod publisher;
mod queue;
mod recorder;
mod sample;

use std::collections::HashMap;
use std::sync::Arc;

use slipway_api::predictions::{Origin, RecordedTensor};
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use slipway_runtime::id;
use tokio_util::sync::CancellationToken;

pub(crate) use self::batch::whole as whole_values;
use self::cloudevents::EventSender;
pub(crate) use self::observation::{Observation, Primary};
use self::pending::Pending;
pub(crate) use self::publisher::Publisher;
use self::queue::Queue;
pub(crate) use self::recorder::Recorder;
use crate::metrics::ServingMetrics;

/// Rows of two answers to the same request that differ.
pub(crate) fn differing_rows(
    answered: &[RecordedTensor],
    other: &[RecordedTensor],
    rows: u64,
    output: Option<&str>,
) -> u64 {
    divergence::between(answered, other, rows, output).differing_rows
}

/// Both ends; without a `bus` nothing is published. Where NATS is `optional`, nothing is kept for it while it
/// is unreachable.
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
        run: id::random(),
        run_started_at_unix_ms: now_unix_ms(),
        batches: 0,
        published_rows: HashMap::new(),
        spare: Pending::default(),
    });
    (recorder, publisher)
}

/// Publishes records, and events if a sink is set, until the shutdown, and then the remainder.
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
