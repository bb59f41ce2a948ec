//! Outbox, relay, inbox and consumers, with a real NATS.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod bus;
mod consumer;
mod stream;
mod world;
