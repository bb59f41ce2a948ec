//! What is logged, which may change while the process runs.

use std::sync::OnceLock;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Replaces the filter of the log.
type Replace = Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>;

static FILTER: OnceLock<Replace> = OnceLock::new();

pub(crate) fn replace_by(replace: Replace) {
    // Set twice only where telemetry is, which is an error of its own.
    let _ = FILTER.set(replace);
}

/// Logs what a filter lets through, e.g. `info,slipway=debug`, from now on.
///
/// # Errors
/// It does not parse, or this process has no log of its own.
pub fn set_filter(filter: &str) -> anyhow::Result<()> {
    let parsed =
        EnvFilter::try_new(filter).with_context(|| format!("the log filter `{filter}` does not parse"))?;
    let replace = FILTER.get().context("this process does not decide what is logged")?;
    replace(parsed)
}
