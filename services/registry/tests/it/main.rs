//! The registry with a real Postgres, S3 and NATS, as its clients see it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod artifacts;
mod faults;
mod histories;
mod lineage;
mod promotion;
mod purge;
mod questions;
mod signatures;
mod tracking;
mod trust;
mod versions;
mod world;
