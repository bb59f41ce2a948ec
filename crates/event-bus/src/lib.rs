//! NATS as Slipway uses it: streams, the transactional outbox and its relay, durable consumers, key-value
//! buckets.
//!
//! A change and its event commit in one Postgres transaction ([`outbox`]); the [`outbox::Relay`] publishes
//! what was committed, with the row's id as `Nats-Msg-Id`; a [`consumer`] acknowledges a message only after
//! its handler's own transaction, and [`inbox::first_time`] makes a second delivery harmless.

pub mod audit;
pub mod bus;
mod connection;
pub mod consumer;
mod direct;
mod history;
pub mod inbox;
pub mod outbox;
pub mod permissions;
pub mod records;

pub use audit::Actor;
pub use bus::{EventBus, NatsConfig};
pub use consumer::{Consumer, Received};
pub use outbox::{Outbox, Prepared, Relay};
use slipway_service_kit::Problem;

/// What can go wrong between a service and NATS or its outbox table.
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
    /// Postgres refused or did not answer.
    #[error("the outbox table")]
    Database(#[from] sqlx::Error),
    /// An event's body is not what its type says.
    #[error("the event `{event_type}` does not parse: {reason}")]
    Body {
        /// CloudEvents type.
        event_type: String,
        /// What is wrong.
        reason: String,
    },
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl Error {
    pub(crate) fn nats(error: impl std::fmt::Display) -> Self {
        Self::Nats(error.to_string())
    }
}
