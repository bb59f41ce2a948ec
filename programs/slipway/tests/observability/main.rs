//! Metrics, rules, dashboards, logs and traces: what they say exists, and what a running platform shows.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod collected;
mod collector;
mod configs;
mod dashboards;
mod declared;
mod document;
mod exposed;
mod live;
mod prometheus;
mod promql;
mod rules;
mod story;
mod trace;

#[path = "../it/client.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod client;
#[path = "../it/platform.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod platform;

/// Two platforms at the same time would slow each other down.
static ONE_PLATFORM: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
