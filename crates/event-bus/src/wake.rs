//! Hints between the replicas of a service, over core NATS: nothing stores them, and nobody may rely on them.

use async_nats::Subscriber;
use bytes::Bytes;

use crate::{Error, EventBus};

/// Subject on which the replicas of a service, e.g. `registry`, tell their leader that they committed
/// something. No stream takes it.
pub fn wake_subject(service: &str) -> String {
    format!("slipway.wake.{service}")
}

impl EventBus {
    /// Tells the leader of a service that something was committed.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn wake(&self, service: &str) -> Result<(), Error> {
        self.client().publish(wake_subject(service), Bytes::new()).await.map_err(Error::nats)
    }

    /// What the replicas of a service tell their leader. The subscription outlives a lost connection; hints
    /// of the time in between are lost.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn wakes(&self, service: &str) -> Result<Subscriber, Error> {
        self.client().subscribe(wake_subject(service)).await.map_err(Error::nats)
    }
}
