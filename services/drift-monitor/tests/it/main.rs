//! The drift monitor against real Postgres and NATS. The services that it asks answer over their real
//! protocols.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod actions;
mod baselines;
mod contract;
mod data;
mod faults;
mod pages;
mod peers;
mod replicas;
mod requests;
mod senders;
mod throughput;
mod verdicts;
mod windows;
mod world;
