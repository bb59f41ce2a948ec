//! A NATS server, and helpers to publish and read events.

use std::time::Duration;

use slipway_event_bus::{EventBus, NatsConfig, Received};
use slipway_testkit::TestNats;
use tokio_util::sync::CancellationToken;

use crate::stream::{self, LOOK_INTERVAL_MS, PATIENCE_S, alias};

/// The server of one test.
pub(crate) struct World {
    pub(crate) nats: TestNats,
    pub(crate) bus: EventBus,
    pub(crate) shutdown: CancellationToken,
}

impl World {
    /// A server with the streams, and a connection to it.
    pub(crate) async fn begin() -> Self {
        let nats = slipway_testkit::nats().await;
        let bus = EventBus::connect(&NatsConfig { nats_url: nats.url.clone() }, "test").await.unwrap();
        let shutdown = CancellationToken::new();
        assert!(bus.wait_for_resources(&shutdown).await);
        Self { nats, bus, shutdown }
    }

    /// Publishes one event.
    pub(crate) async fn set_alias(&self, version: u32) {
        self.set_aliases([version]).await;
    }

    /// Publishes events, each once and in their order, also where the connection is just being restored.
    pub(crate) async fn set_aliases(&self, versions: impl IntoIterator<Item = u32>) {
        for version in versions {
            let id = uuid::Uuid::now_v7();
            for _ in 0..PATIENCE_S * 1_000 / LOOK_INTERVAL_MS {
                if self.bus.publish_event("slipway/test", id, &alias(version)).await.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
            }
        }
    }

    /// Everything in the stream, once `count` messages are there.
    pub(crate) async fn published(&self, count: usize) -> Vec<Received> {
        stream::read(&self.bus, count).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
