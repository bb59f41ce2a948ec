//! Backups against real servers: what was destroyed comes back, byte for byte and row for row.
#![expect(clippy::disallowed_methods, reason = "tests start tasks")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod refusals;
mod whole;
mod world;
