//! What the drift monitor counts.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use slipway_domain::drift::{FeatureScore, WindowScores};
use slipway_service_kit::metrics::Metrics;

use crate::received::Missed;

/// Columns of a monitor that get gauges of their own; a table of thousands of columns would drown Prometheus.
const MAX_FEATURE_SERIES: usize = 100;

/// Gauges and counters. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct DriftMetrics {
    psi: Family<ColumnLabels, Gauge<f64, AtomicU64>>,
    ks: Family<ColumnLabels, Gauge<f64, AtomicU64>>,
    missing_delta: Family<ColumnLabels, Gauge<f64, AtomicU64>>,
    column_drifted: Family<ColumnLabels, Gauge>,
    /// Columns that each monitor has gauges of, to remove them with it.
    shown: Arc<Mutex<HashMap<String, Vec<ColumnLabels>>>>,
    share_drifted: Family<MonitorLabels, Gauge<f64, AtomicU64>>,
    drifted: Family<MonitorLabels, Gauge>,
    windows: Family<WindowLabels, Counter>,
    rows: Family<MonitorLabels, Counter>,
    rows_missed: Family<MissedLabels, Counter>,
    lag_messages: Family<MonitorLabels, Gauge>,
    lag_seconds: Family<MonitorLabels, Gauge<f64, AtomicU64>>,
    rows_repeated: Family<MonitorLabels, Gauge>,
    events: Family<EventLabels, Counter>,
    monitors: Family<StateLabels, Gauge>,
    /// Messages of prediction records that were parsed.
    pub(crate) parsed: Counter,
    /// Messages of prediction records that do not parse.
    pub(crate) unreadable: Counter,
    /// Actions that wait to be performed.
    pub(crate) actions_pending: Gauge,
    actions: Family<ActionLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MonitorLabels {
    monitor: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ColumnLabels {
    monitor: String,
    /// `feature` or `prediction`.
    kind: &'static str,
    column: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WindowLabels {
    monitor: String,
    /// `drifted`, `steady` or `inconclusive`.
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MissedLabels {
    monitor: String,
    /// `lost`, `dropped` or `not-recorded`.
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    monitor: String,
    /// `detected` or `cleared`.
    what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: String,
    /// `done`, `failed` or `postponed`.
    outcome: &'static str,
}

impl DriftMetrics {
    /// Registered with the service's metrics.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(
            "drift_psi",
            "Population stability index of a column in the last window",
            own.psi.clone(),
        );
        metrics.register(
            "drift_ks",
            "Kolmogorov-Smirnov distance of a column in the last window",
            own.ks.clone(),
        );
        metrics.register(
            "drift_missing_rate_delta",
            "Share of missing values of a column in the last window, minus that in training",
            own.missing_delta.clone(),
        );
        metrics.register(
            "drift_column_drifted",
            "Whether a column drifted in the last window: 1, or 0",
            own.column_drifted.clone(),
        );
        metrics.register(
            "drift_share_drifted",
            "Share of features that drifted in the last window",
            own.share_drifted.clone(),
        );
        metrics.register("drift_drifted", "1 from a detection until it is cleared", own.drifted.clone());
        metrics.register("drift_windows", "Closed windows by verdict", own.windows.clone());
        metrics.register("drift_rows", "Rows in closed windows", own.rows.clone());
        metrics.register(
            "drift_rows_missed",
            "Answered rows that no window counts: lost from the stream, dropped by serving, or not recorded",
            own.rows_missed.clone(),
        );
        metrics.register(
            "drift_lag_messages",
            "Messages of prediction records that a monitor has not read",
            own.lag_messages.clone(),
        );
        metrics.register(
            "drift_lag_seconds",
            "Age of the last message that a monitor has read, while there are more",
            own.lag_seconds.clone(),
        );
        metrics.register(
            "drift_rows_repeated",
            "1 if the last window repeats a few rows",
            own.rows_repeated.clone(),
        );
        metrics.register("drift_events", "Drift detected and cleared", own.events.clone());
        own.register_work(metrics);
        own
    }

    fn register_work(&self, metrics: &Metrics) {
        metrics.register("drift_monitors", "Monitors by state", self.monitors.clone());
        metrics.register(
            "drift_messages",
            "Messages of prediction records that this replica parsed, each once for all monitors",
            self.parsed.clone(),
        );
        metrics.register(
            "drift_records_unreadable",
            "Messages of prediction records that do not parse",
            self.unreadable.clone(),
        );
        metrics.register("drift_actions_pending", "Actions pending", self.actions_pending.clone());
        metrics.register("drift_actions", "Attempts at actions by outcome", self.actions.clone());
    }

    /// A window was committed.
    pub(crate) fn window_closed(&self, monitor: &str, scores: &WindowScores, drifted: bool) {
        let labels = MonitorLabels { monitor: monitor.to_owned() };
        let verdict = match (scores.conclusive, scores.drifted) {
            (false, _) => "inconclusive",
            (true, true) => "drifted",
            (true, false) => "steady",
        };
        self.windows.get_or_create(&WindowLabels { monitor: monitor.to_owned(), verdict }).inc();
        self.rows.get_or_create(&labels).inc_by(scores.rows);
        self.share_drifted.get_or_create(&labels).set(scores.share_drifted);
        self.drifted.get_or_create(&labels).set(i64::from(drifted));
        self.rows_repeated.get_or_create(&labels).set(i64::from(scores.rows_repeated));
        self.show_columns(monitor, columns(monitor, scores).map(|(labels, _)| labels).collect());
        for (labels, score) in columns(monitor, scores) {
            self.psi.get_or_create(&labels).set(score.psi);
            if let Some(distance) = score.ks {
                self.ks.get_or_create(&labels).set(distance);
            }
            // What no record has is not missing: it was not recorded.
            let missing = if score.compared { score.missing_rate - score.trained_missing_rate } else { 0.0 };
            self.missing_delta.get_or_create(&labels).set(missing);
            self.column_drifted.get_or_create(&labels).set(i64::from(score.drifted));
        }
    }

    /// Rows that a window does not count.
    pub(crate) fn missed(&self, monitor: &str, missed: Missed) {
        let Missed { lost, dropped, not_recorded } = missed;
        for (reason, rows) in [("lost", lost), ("dropped", dropped), ("not-recorded", not_recorded)] {
            let labels = MissedLabels { monitor: monitor.to_owned(), reason };
            self.rows_missed.get_or_create(&labels).inc_by(rows);
        }
    }

    /// How far a monitor is behind the stream.
    pub(crate) fn lag(&self, monitor: &str, messages: u64, seconds: f64) {
        let labels = MonitorLabels { monitor: monitor.to_owned() };
        self.lag_messages.get_or_create(&labels).set(i64::try_from(messages).unwrap_or(i64::MAX));
        self.lag_seconds.get_or_create(&labels).set(seconds);
    }

    /// How a monitor stands, known without a window: after a start or another baseline.
    pub(crate) fn stands(&self, monitor: &str, drifted: bool) {
        self.drifted.get_or_create(&MonitorLabels { monitor: monitor.to_owned() }).set(i64::from(drifted));
    }

    /// Drift was detected or cleared.
    pub(crate) fn event(&self, monitor: &str, what: &str) {
        self.events.get_or_create(&EventLabels { monitor: monitor.to_owned(), what: what.to_owned() }).inc();
    }

    /// An attempt at an action ended.
    pub(crate) fn action(&self, action: &str, outcome: &'static str) {
        self.actions.get_or_create(&ActionLabels { action: action.to_owned(), outcome }).inc();
    }

    /// All monitors, counted by state.
    pub(crate) fn states(&self, counts: Vec<(String, i64)>) {
        self.monitors.clear();
        for (state, count) in counts {
            self.monitors.get_or_create(&StateLabels { state }).set(count);
        }
    }

    /// A monitor is gone, and its series with it.
    pub(crate) fn forget(&self, monitor: &str) {
        let labels = MonitorLabels { monitor: monitor.to_owned() };
        self.drifted.remove(&labels);
        self.share_drifted.remove(&labels);
        self.rows.remove(&labels);
        self.lag_messages.remove(&labels);
        self.lag_seconds.remove(&labels);
        self.rows_repeated.remove(&labels);
        for reason in ["lost", "dropped", "not-recorded"] {
            self.rows_missed.remove(&MissedLabels { monitor: monitor.to_owned(), reason });
        }
        for verdict in ["drifted", "steady", "inconclusive"] {
            self.windows.remove(&WindowLabels { monitor: monitor.to_owned(), verdict });
        }
        for what in ["detected", "cleared"] {
            self.events.remove(&EventLabels { monitor: monitor.to_owned(), what: what.to_owned() });
        }
        self.forget_columns(monitor);
    }

    /// Another baseline may have other columns.
    fn show_columns(&self, monitor: &str, columns: Vec<ColumnLabels>) {
        let same = self.shown().get(monitor) == Some(&columns);
        if !same {
            self.forget_columns(monitor);
            self.shown().insert(monitor.to_owned(), columns);
        }
    }

    fn forget_columns(&self, monitor: &str) {
        let shown = self.shown().remove(monitor);
        for labels in shown.into_iter().flatten() {
            self.psi.remove(&labels);
            self.ks.remove(&labels);
            self.missing_delta.remove(&labels);
            self.column_drifted.remove(&labels);
        }
    }

    fn shown(&self) -> MutexGuard<'_, HashMap<String, Vec<ColumnLabels>>> {
        // The map is valid after any panic: each change is one insert or remove.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The columns that have gauges, predictions first.
fn columns<'scores>(
    monitor: &'scores str,
    scores: &'scores WindowScores,
) -> impl Iterator<Item = (ColumnLabels, &'scores FeatureScore)> {
    let predictions = scores.predictions.iter().map(|score| ("prediction", score));
    let features = scores.features.iter().map(|score| ("feature", score));
    predictions.chain(features).take(MAX_FEATURE_SERIES).map(move |(kind, score)| {
        (ColumnLabels { monitor: monitor.to_owned(), kind, column: score.name.clone() }, score)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(name: &str, missing_rate: f64, drifted: bool) -> FeatureScore {
        let name = name.to_owned();
        FeatureScore {
            name,
            compared: true,
            missing_rate,
            trained_missing_rate: 0.1,
            drifted,
            ..FeatureScore::default()
        }
    }

    #[test]
    fn columns_show_missing_values_and_drift_until_the_monitor_is_deleted() {
        let metrics = Metrics::new();
        let own = DriftMetrics::register(&metrics);
        let scores = WindowScores {
            features: vec![
                score("age", 0.6, true),
                FeatureScore { compared: false, ..score("plan", 0.0, false) },
            ],
            predictions: vec![score("label", 0.1, false)],
            ..WindowScores::default()
        };
        own.window_closed("churn", &scores, false);
        let text = metrics.render();
        for line in [
            r#"slipway_drift_missing_rate_delta{monitor="churn",kind="feature",column="age"} 0.5"#,
            r#"slipway_drift_missing_rate_delta{monitor="churn",kind="feature",column="plan"} 0.0"#,
            r#"slipway_drift_column_drifted{monitor="churn",kind="feature",column="age"} 1"#,
            r#"slipway_drift_column_drifted{monitor="churn",kind="prediction",column="label"} 0"#,
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        own.forget("churn");
        assert!(!metrics.render().contains("churn"));
    }
}
