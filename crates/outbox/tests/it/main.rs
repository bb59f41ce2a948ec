//! Outbox, relay, inbox and audit trail with a real Postgres and a real NATS.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod audit;
mod exactly_once;
mod inbox;
mod migrations;
mod relay;
#[path = "../../../event-bus/tests/it/stream.rs"]
mod stream;
mod world;
