//! Postgres as services open it, and the tasks of a service.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod db;
mod tasks;
