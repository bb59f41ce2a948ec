//! Events of an alias in the stream, and helpers to follow them. The tests of `crates/outbox` use this file,
//! too.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use slipway_api::events::{ALIAS_SET, AliasSet, EVENTS_STREAM};
use slipway_event_bus::{Consumer, EventBus, Received, records};
use tokio_util::sync::CancellationToken;

/// A slow machine needs this long at most.
pub(crate) const PATIENCE_S: u64 = 60;
pub(crate) const LOOK_INTERVAL_MS: u64 = 25;

/// Waits until something is so.
pub(crate) async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..PATIENCE_S * 1_000 / LOOK_INTERVAL_MS {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
    }
    panic!("waited {PATIENCE_S} s in vain for {what}");
}

/// An event of a model's alias.
pub(crate) fn alias(version: u32) -> AliasSet {
    AliasSet {
        model: "m".into(),
        alias: "champion".into(),
        version: version.to_string(),
        unchanged: false,
        model_id: String::new(),
    }
}

/// The version that an event names.
pub(crate) fn version(event: &Received) -> u32 {
    event.parse::<AliasSet>().unwrap().version.parse().unwrap()
}

/// The versions that events name.
pub(crate) fn versions(events: &[Received]) -> Vec<u32> {
    events.iter().map(version).collect()
}

/// Messages in the events stream.
pub(crate) async fn stored(bus: &EventBus) -> usize {
    let mut stream = bus.jetstream().get_stream(EVENTS_STREAM).await.unwrap();
    usize::try_from(stream.info().await.unwrap().state.messages).unwrap()
}

/// Everything in the events stream, once at least `count` messages are there and all of them have been read.
pub(crate) async fn read(bus: &EventBus, count: usize) -> Vec<Received> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let end = CancellationToken::new();
    let (reading, sink, until) = (bus.clone(), Arc::clone(&seen), end.clone());
    let reader = tokio::spawn(async move {
        records::read_from(&reading, EVENTS_STREAM, SystemTime::UNIX_EPOCH, &until, |message| {
            sink.lock().unwrap().push(Received::from_message(message));
        })
        .await;
    });
    wait_for("the events in the stream", || seen.lock().unwrap().len() >= count).await;
    let total = stored(bus).await;
    wait_for("every message of the stream", || seen.lock().unwrap().len() >= total).await;
    end.cancel();
    reader.await.unwrap();
    let seen = seen.lock().unwrap();
    seen.clone()
}

/// A consumer of the alias' events.
pub(crate) fn consumer(bus: &EventBus, durable: &str) -> Consumer {
    Consumer::new(bus.clone(), EVENTS_STREAM, durable, vec![ALIAS_SET.to_owned()])
}

/// The versions that a handler received, in order.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<u32>>>);

impl Seen {
    pub(crate) fn push(&self, version: u32) {
        self.0.lock().unwrap().push(version);
    }

    pub(crate) fn all(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn times(&self, version: u32) -> usize {
        self.0.lock().unwrap().iter().filter(|seen| **seen == version).count()
    }

    pub(crate) async fn wait_for(&self, count: usize) {
        wait_for("the consumer's events", || self.0.lock().unwrap().len() >= count).await;
    }
}
