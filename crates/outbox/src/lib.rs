//! Exactly-once effects between Postgres and NATS: a transactional outbox, its relay, and an inbox.
//!
//! A change and its event commit in one transaction ([`Outbox`]); the [`Relay`] publishes what was committed,
//! with the row's id as `Nats-Msg-Id`, so that JetStream stores it once. Consumers call [`inbox::first_time`]
//! in the transaction that acts on an event, which makes a second delivery harmless.
//!
//! The relay runs in the replica that leads ([`slipway_lease`]); [`backlog`] shows in every replica how far
//! it is behind.
//!
//! What happens in the caller's transaction fails as that transaction does, with [`sqlx::Error`].

pub mod backlog;
pub mod inbox;
mod outbox;
mod relay;

pub use outbox::{Outbox, Prepared};
pub use relay::Relay;
use sqlx::migrate::Migrator;

/// Makes the tables `outbox` and `inbox` in the first schema of the search path, or brings them up to date.
/// Runs after the service's own migrations.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name("_outbox_migrations");
    migrator
}
