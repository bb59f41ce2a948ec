//! Postgres as services open it, and the tasks of a service.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]

mod db;
mod migrations;
mod tasks;
