//! Notices that the process stood still, and says in readiness, log and metrics whether its tables are the
//! current ones.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use slipway_api::traffic::TablesState;
use slipway_service_kit::health::Readiness;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::models::TABLES_PART;
use crate::models::currency::{Currency, PULSE_MS, last_known};

/// Looks until the shutdown.
pub(crate) async fn watch(currency: Arc<Currency>, readiness: Readiness, shutdown: CancellationToken) {
    let mut interval = tokio::time::interval(Duration::from_millis(PULSE_MS));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = TablesState::Waiting;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        if let Some(gap) = currency.pulse() {
            let stood_still_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                stood_still_ms,
                "process stood still; reading the current traffic tables before \
                the next answer"
            );
            readiness.waiting(TABLES_PART, "the process stood still and reads the current ones");
        }
        let now = currency.tables();
        if now != shown {
            show(now, shown, &readiness);
            shown = now;
        }
    }
}

fn show(now: TablesState, before: TablesState, readiness: &Readiness) {
    match now {
        TablesState::Waiting => {}
        TablesState::Current => {
            readiness.ready(TABLES_PART);
            readiness.forget(TABLES_PART);
            if matches!(before, TablesState::LastKnown { .. }) {
                tracing::info!("traffic tables are current again");
            }
        }
        TablesState::LastKnown { since_unix_ms } => {
            readiness.ready(TABLES_PART);
            let text = last_known(since_unix_ms);
            tracing::warn!("traffic tables: {text}");
            readiness.note(TABLES_PART, text);
        }
    }
}

/// Whether the tables are the current ones, at each scrape.
#[derive(Debug)]
pub(crate) struct CurrencyMetrics(pub(crate) Arc<Currency>);

impl Collector for CurrencyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let current = u64::from(self.0.tables() == TablesState::Current);
        let help = "Whether the traffic tables in use are known to be the current ones: 1, or 0";
        let name = "slipway_serving_tables_current";
        ConstGauge::new(current).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        let help = "Time since the traffic tables in use were last known to be the current ones";
        let name = "slipway_serving_tables_unconfirmed_seconds";
        let seconds = self.0.unknown_for().as_secs_f64();
        ConstGauge::new(seconds).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}
