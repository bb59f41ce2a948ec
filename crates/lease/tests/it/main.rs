//! The lease with a real Postgres, in one process and in several.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod fencing;
mod partitions;
mod processes;
mod terms;
mod world;
