//! Imports between two real registries, which both speak MLflow's REST API.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod access;
mod contents;
mod server;
