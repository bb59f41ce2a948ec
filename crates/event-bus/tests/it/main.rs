//! Outbox, relay, inbox and consumers, with a real Postgres and a real NATS.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod audit;
mod bus;
mod consumer;
mod inbox;
mod outbox;
mod world;
