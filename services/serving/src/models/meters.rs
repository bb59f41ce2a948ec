//! What is counted of loading: memory by version, loads and unloads.

use std::collections::BTreeSet;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use slipway_service_kit::metrics::Metrics;

/// Labels of a version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct VersionLabels {
    /// Deployment.
    pub(super) deployment: String,
    /// Its version.
    pub(super) version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnloadLabels {
    reason: &'static str,
}

/// Why a version left memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unload {
    /// To make room.
    MemoryLimit,
    /// No table names it, and it is not kept for a rollback.
    Unwanted,
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LoadMeters {
    memory: Family<VersionLabels, Gauge>,
    limit: Gauge,
    loads: Family<LoadLabels, Counter>,
    unloads: Family<UnloadLabels, Counter>,
}

impl LoadMeters {
    /// Counters that `metrics` shows.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let meters = Self {
            memory: Family::default(),
            limit: Gauge::default(),
            loads: Family::default(),
            unloads: Family::default(),
        };
        metrics.register(
            "serving_model_memory_bytes",
            "Memory that a version took when it was loaded; 0 while it is unloaded",
            meters.memory.clone(),
        );
        metrics.register(
            "serving_memory_limit_bytes",
            "What loaded versions may take; 0 is no limit",
            meters.limit.clone(),
        );
        metrics.register("serving_loads", "Loads of versions that ended", meters.loads.clone());
        metrics.register("serving_unloads", "Versions that left memory", meters.unloads.clone());
        meters
    }

    /// Shows the limit.
    pub(super) fn limit(&self, bytes: u64) {
        self.limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a load.
    pub(super) fn loaded(&self, outcome: &'static str) {
        self.loads.get_or_create(&LoadLabels { outcome }).inc();
    }

    /// Counts a version that left memory.
    pub(super) fn unloaded(&self, why: Unload) {
        let reason = match why {
            Unload::MemoryLimit => "memory-limit",
            Unload::Unwanted => "unwanted",
        };
        self.unloads.get_or_create(&UnloadLabels { reason }).inc();
    }

    /// Shows what each version takes; `shown` are those of the last time.
    pub(super) fn show(
        &self,
        taken: impl Iterator<Item = (VersionLabels, u64)>,
        shown: &mut BTreeSet<VersionLabels>,
    ) {
        let mut gone = std::mem::take(shown);
        for (labels, bytes) in taken {
            gone.remove(&labels);
            self.memory.get_or_create(&labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
            shown.insert(labels);
        }
        for labels in gone {
            self.memory.remove(&labels);
        }
    }
}
