//! The Helm chart: what it renders, what it refuses, and an installation on a real cluster.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod chart;
mod copies;
mod flows;
mod install;
mod manifests;
mod reference;
mod refusals;
mod world;

#[path = "../it/client.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod client;
#[path = "../it/platform.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod platform;
