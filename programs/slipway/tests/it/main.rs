//! The platform as its users meet it: the `slipway` program, its servers and services, all real.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod access_table;
mod client;
mod commands;
mod ensembles;
mod faults;
mod guarded;
mod import;
mod job_tokens;
mod lifecycle;
mod neighbours;
mod output;
mod platform;
mod refusals;
mod traces;
mod trust;
mod unjudged;
mod waiting;
