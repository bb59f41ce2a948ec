//! NATS as Slipway uses it: the connection, streams and buckets, events and their consumers, and what each
//! user may do.
//!
//! Events that belong to a change in Postgres are published by the relay of `crates/outbox`. A [`consumer`]
//! acknowledges a message only after its handler is done, so that each event is delivered at least once.

pub mod bus;
mod cloud_event;
mod connection;
pub mod consumer;
mod history;
pub mod permissions;
pub mod position;
pub mod records;

pub use bus::{EventBus, NatsConfig};
pub use cloud_event::{CloudEvent, Publishing};
pub use consumer::{Consumer, Received};

/// What can go wrong between a service and NATS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's address cannot be used.
    #[error("the NATS address `{url}` cannot be used (--nats-url, SLIPWAY_NATS_URL): {reason}")]
    Address {
        /// As configured, without credentials.
        url: String,
        /// Why.
        reason: String,
    },
    /// NATS refused or did not answer.
    #[error("NATS: {0}")]
    Nats(String),
    /// An event's body is not what its type says.
    #[error("the event `{event_type}` does not parse: {reason}")]
    Body {
        /// CloudEvents type.
        event_type: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    pub(crate) fn nats(error: impl std::fmt::Display) -> Self {
        Self::Nats(error.to_string())
    }
}
