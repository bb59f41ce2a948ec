//! The registry with a real Postgres, S3 and NATS, as its clients see it.

mod artifacts;
mod faults;
mod questions;
mod tracking;
mod versions;
mod world;
