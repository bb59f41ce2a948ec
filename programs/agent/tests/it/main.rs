//! The agent as a program: what a job's owner and the launcher see of an attempt.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod agent;
mod checkpoints;
mod contact;
mod ends;
mod launcher;
mod output;
mod stops;
