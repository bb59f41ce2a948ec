//! What is logged, which may change while the process runs.

use std::sync::OnceLock;

use anyhow::Context as _;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;

/// Replaces the filter of the log.
type Replace = Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>;

static FILTER: OnceLock<Replace> = OnceLock::new();

pub(crate) fn replace_by(replace: Replace) {
    // Set twice only where telemetry is, which is an error of its own.
    let _ = FILTER.set(replace);
}

/// Whether a line is logged in our own words, too: the NATS client reports each event to its owner and to the log.
pub(crate) fn is_said_elsewhere(event: &Metadata<'_>) -> bool {
    matches!(event.target(), "async_nats" | "async_nats::connector") && *event.level() == Level::INFO
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
