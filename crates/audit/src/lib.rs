//! The audit trail in Postgres: which events changed what, on whose behalf and from where, as a chain of
//! hashes.
//!
//! A service with an audit trail runs [`migrator`] in its schema. Its relay [`append`]s each event that it
//! published, in the transaction that takes the event out of the outbox; [`page`] reads the trail. The chain
//! itself is [`slipway_domain::audit`].

mod append;
mod trail;

pub use append::{Actor, Entry, append};
use sqlx::migrate::Migrator;
pub use trail::{AuditRow, Filter, Page, page};

/// Makes the tables `audit` and `audit_head` in the first schema of the search path, or brings them up to
/// date. Runs after the service's own migrations.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name("_audit_migrations");
    migrator
}
