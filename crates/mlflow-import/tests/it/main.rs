//! Imports between two real registries, which both speak MLflow's REST API.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod access;
mod contents;
mod server;
