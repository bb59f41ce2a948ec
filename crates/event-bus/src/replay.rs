//! Recorded requests on their way from the rollout controller to the serving replica that replays them for a
//! drill, over core NATS: nothing stores them.

use async_nats::Subscriber;
use bytes::Bytes;

use crate::{Error, EventBus};

/// Subject of the recorded requests of a drill. No stream takes it.
pub(crate) fn replay_subject(drill_id: &str) -> String {
    format!("slipway.replay.{drill_id}")
}

impl EventBus {
    /// Sends a message of a replay.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn replay(&self, drill_id: &str, message: Bytes) -> Result<(), Error> {
        self.client().publish(replay_subject(drill_id), message).await.map_err(Error::nats)
    }

    /// The messages of a replay. The subscription outlives a lost connection; messages of the time in between
    /// are lost.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn replays(&self, drill_id: &str) -> Result<Subscriber, Error> {
        self.client().subscribe(replay_subject(drill_id)).await.map_err(Error::nats)
    }
}
