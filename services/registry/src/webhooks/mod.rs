//! Webhooks: events over HTTP for those without NATS.
//!
//! The [`intake`] turns each event of the stream into one row a webhook that wants it; the [`worker`]s of all
//! replicas claim rows and [`send`] them until the receiver took them or they are given up. Rows outlive
//! every process, so nothing is lost; a receiver may be told twice, and knows by the id.

pub(crate) mod changing;
mod config;
pub(crate) mod dialect;
pub(crate) mod intake;
mod payload;
pub(crate) mod reading;
pub(crate) mod replay;
pub(crate) mod send;
pub(crate) mod sign;
pub(crate) mod testing;
pub(crate) mod worker;

use std::sync::Arc;

pub use config::WebhookConfig;
use slipway_domain::registry::webhook::Retries;
use slipway_event_bus::EventBus;
use tokio::sync::Notify;

use self::dialect::Dialect;
use self::send::Sender;

/// What webhooks need. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks {
    pub(crate) bus: EventBus,
    /// The format besides CloudEvents.
    pub(crate) dialect: Dialect,
    pub(crate) sender: Sender,
    pub(crate) retries: Retries,
    /// There may be something to deliver.
    pub(crate) wake: Arc<Notify>,
}

impl Webhooks {
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(config: &WebhookConfig, bus: EventBus, dialect: Dialect) -> anyhow::Result<Self> {
        Ok(Self {
            bus,
            sender: Sender::new(config, dialect)?,
            dialect,
            retries: Retries {
                max_attempts: config.webhook_max_attempts,
                initial_ms: config.webhook_retry_initial_ms,
                max_ms: config.webhook_retry_max_ms,
            },
            wake: Arc::default(),
        })
    }
}
