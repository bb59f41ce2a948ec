//! One line a step: what runs, and how long it took.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Runs a step, and says so before and after.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("==> {name}");
    let started = Instant::now();
    let outcome = work().with_context(|| format!("step `{name}`"));
    let mark = if outcome.is_ok() { "ok" } else { "FAILED" };
    eprintln!("    {mark} after {}", seconds(started.elapsed()));
    outcome
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
