//! What is logged of the connection: each change once, and no attempt of many.

use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::Event;

/// The log of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    url: String,
    /// Whether it was said that NATS is unreachable, and not yet that it is back.
    away: AtomicBool,
}

impl Connection {
    /// A connection to `url`, which has no credentials in it.
    pub(crate) const fn to(url: String) -> Self {
        Self { url, away: AtomicBool::new(false) }
    }

    /// Logs what happened to it, where that is news.
    pub(crate) fn hear(&self, event: &Event) {
        let url = &self.url;
        match event {
            Event::Connected => {
                self.away.store(false, Ordering::Relaxed);
                tracing::info!(url, "connected to NATS");
            }
            Event::Disconnected => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(url, "connection to NATS lost; reconnecting");
                }
            }
            // One for each attempt.
            Event::ClientError(error) => {
                if self.away.swap(true, Ordering::Relaxed) {
                    tracing::debug!(url, %error, "NATS is still unreachable");
                } else {
                    tracing::warn!(url, %error, "NATS is unreachable; retrying until it answers");
                }
            }
            Event::SlowConsumer(_) | Event::ServerError(_) => {
                tracing::warn!(url, %event, "NATS reported a problem");
            }
            Event::LameDuckMode => tracing::info!(url, "NATS is shutting down"),
            Event::Draining | Event::Closed => tracing::debug!(url, %event, "connection to NATS closed"),
        }
    }
}
