//! The launcher and its agent with a real Postgres, S3 and NATS, as their users see them.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod checkpoints;
mod contract;
mod isolation;
mod logs;
mod pages;
mod processes;
mod replicas;
mod requests;
mod resources;
mod restarts;
mod running;
mod suspension;
mod uploads;
mod world;
