//! NATS as Slipway uses it: the connection, streams and buckets, events and their consumers, and what each
//! user may do.
//!
//! Events that belong to a change in Postgres are published by the relay of `crates/outbox`. A [`consumer`]
//! acknowledges a message only after its handler is done, so that each event is delivered at least once.

pub mod bucket;
pub mod bus;
mod cloud_event;
mod connection;
pub mod consumer;
mod history;
mod liveness;
pub mod permissions;
mod place;
pub mod position;
pub mod records;
mod replay;
mod resources;
mod settings;
mod wake;

pub use bus::{EventBus, NatsConfig};
pub use cloud_event::{CloudEvent, Publishing};
pub use consumer::{Consumer, Received};
pub use settings::{Storage, StreamSettings};
pub use wake::wake_subject;

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
    /// A stream, or the stream behind a bucket, exists and cannot be used.
    #[error(
        "the stream `{stream}` of NATS has {field} `{found}`, expected `{expected}`: change it with `nats \
         stream edit` where NATS allows that, or delete the stream so that it is created again"
    )]
    Unusable {
        /// Its name.
        stream: String,
        /// The property, as NATS names it.
        field: &'static str,
        /// What it is.
        found: String,
        /// What the platform requires.
        expected: String,
    },
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
