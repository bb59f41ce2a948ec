//! Brings the versions of the current traffic tables into the cache, and ends: serving that starts afterwards
//! downloads nothing. What cannot be had is left to serving, which tries again and says why it waits.

use std::time::Duration;

use slipway_api::traffic::TrafficTable;
use slipway_event_bus::EventBus;
use slipway_service_kit::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::models::{Cache, LoadMeters, Loader};
use crate::traffic::selection::Selection;
use crate::traffic::tables;

/// Pause before the tables are asked for again.
const RETRY_DELAY_MS: u64 = 200;

/// Fetches what the tables name, until the shutdown.
///
/// # Errors
/// A setting cannot be used, or the cache directory cannot be written.
pub(crate) async fn run(config: &Config, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let selection = config.selection()?;
    let loader = crate::loader(config, LoadMeters::register(&Metrics::new()))?;
    let Some(bus) = crate::connect(config).await? else { return Ok(()) };
    let most = Duration::from_millis(config.tables_wait_ms);
    let fetching = async {
        let tables = match tokio::time::timeout(most, current(&bus, &selection)).await {
            Ok(tables) => tables,
            Err(_elapsed) => {
                tracing::warn!("NATS is unreachable; fetching the versions of the last known traffic tables");
                last_known(&loader, &selection)
            }
        };
        fetch(&loader, &tables).await;
    };
    shutdown.run_until_cancelled(fetching).await;
    Ok(())
}

/// The tables in the bucket; waits until it can be read.
async fn current(bus: &EventBus, selection: &Selection) -> Vec<TrafficTable> {
    loop {
        match tables::all(bus, selection).await {
            Ok(tables) => return tables,
            Err(error) => tracing::debug!(error = format!("{error:#}"), "traffic tables not read; retrying"),
        }
        tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)).await;
    }
}

/// The tables that a replica has kept in the cache directory.
fn last_known(loader: &Loader, selection: &Selection) -> Vec<TrafficTable> {
    let known = loader.cache().map(Cache::tables).unwrap_or_default();
    known.into_values().map(|known| known.wanted).filter(|table| selection.takes(table)).collect()
}

async fn fetch(loader: &Loader, tables: &[TrafficTable]) {
    let named = |table: &TrafficTable| {
        table.targets().map(|target| (table.model.clone(), target.clone())).collect::<Vec<_>>()
    };
    for (model, target) in tables.iter().flat_map(named) {
        let version = &target.version;
        match loader.fetch(&model, &target).await {
            Ok(()) => tracing::info!(model, version, "the version is in the cache"),
            Err(failure) => {
                let reason = failure.reason;
                tracing::warn!(model, version, reason, "version not fetched; serving tries again");
            }
        }
    }
}
