//! The launcher and its agent with a real Postgres, S3 and NATS, as their users see them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod checkpoints;
mod isolation;
mod pages;
mod processes;
mod requests;
mod resources;
mod restarts;
mod running;
mod world;
