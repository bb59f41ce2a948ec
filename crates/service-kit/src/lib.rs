//! What a service is made of: start and stop, configuration, readiness, metrics, Postgres, files that change.
//!
//! A service composes it in one order, so that one `lib.rs` teaches all: configuration → telemetry → clients
//! → state → router → background tasks → readiness → serve → drain → flush.

pub mod db;
pub mod drain;
mod exposition;
pub mod health;
pub mod lifecycle;
mod memory;
pub mod metrics;
mod migrations;
mod probe;
mod process;
pub mod registry;
mod sql_errors;
mod transaction;
pub mod watch;

pub use drain::Drain;
pub use lifecycle::{Tasks, main};
pub use probe::probe_if_asked;
