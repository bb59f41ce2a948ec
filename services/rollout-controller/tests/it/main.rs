//! The rollout controller with a real Postgres and NATS. The registry and the serving replica are told what
//! to say by the test, over the real protocols: the whole platform together is tested with the `slipway`
//! command.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod aliases;
mod canary;
mod contract;
mod drills;
mod kill_switch;
mod namesakes;
mod overrides;
mod pages;
mod peers;
mod processes;
mod recovery;
mod renames;
mod requests;
mod scale;
mod settings;
mod unjudged;
mod upgrade;
mod world;
