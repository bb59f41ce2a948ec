//! What is counted of loading: memory by version, loads and unloads.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use slipway_inference::DeviceMemory;
use slipway_service_kit::metrics::Metrics;

use super::served::Memory;

/// Labels of a version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct VersionLabels {
    /// Deployment.
    pub(super) deployment: String,
    /// Its version.
    pub(super) version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct DeviceLabels {
    deployment: String,
    version: String,
    /// The GPU's number, as its driver counts.
    device: u32,
}

/// Whose memory is shown.
#[derive(Debug, Default)]
pub(super) struct ShownMemory {
    versions: BTreeSet<VersionLabels>,
    devices: BTreeSet<DeviceLabels>,
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
    device_memory: Family<DeviceLabels, Gauge>,
    limit: Gauge,
    loads: Family<LoadLabels, Counter>,
    unloads: Family<UnloadLabels, Counter>,
    probes: Family<LoadLabels, Counter>,
}

impl LoadMeters {
    /// Counters that `metrics` shows.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let meters = Self {
            memory: Family::default(),
            device_memory: Family::default(),
            limit: Gauge::default(),
            loads: Family::default(),
            unloads: Family::default(),
            probes: Family::default(),
        };
        // From the start: Prometheus does not see the increase of a series that begins with 1.
        for outcome in ["loaded", "failed", "failed-for-now"] {
            meters.loads.get_or_create(&LoadLabels { outcome }).inc_by(0);
        }
        for reason in ["memory-limit", "unwanted"] {
            meters.unloads.get_or_create(&UnloadLabels { reason }).inc_by(0);
        }
        metrics.register(
            "serving_model_memory_bytes",
            "Memory that a version took when it was loaded; 0 while it is unloaded",
            meters.memory.clone(),
        );
        metrics.register(
            "serving_model_device_memory_bytes",
            "Memory of a GPU that a version took when it was loaded; 0 while it is unloaded",
            meters.device_memory.clone(),
        );
        metrics.register(
            "serving_memory_limit_bytes",
            "Memory limit of all loaded versions; 0 means unlimited",
            meters.limit.clone(),
        );
        metrics.register("serving_loads", "Finished loads of versions", meters.loads.clone());
        metrics.register(
            "serving_load_probes",
            "Loads of versions in a child process; known: the verdict was stored",
            meters.probes.clone(),
        );
        metrics.register("serving_unloads", "Unloaded versions", meters.unloads.clone());
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

    /// Counts how a load in a child process ended.
    pub(super) fn probed(&self, outcome: &'static str) {
        self.probes.get_or_create(&LoadLabels { outcome }).inc();
    }

    /// Counts a version that left memory.
    pub(super) fn unloaded(&self, why: Unload) {
        let reason = match why {
            Unload::MemoryLimit => "memory-limit",
            Unload::Unwanted => "unwanted",
        };
        self.unloads.get_or_create(&UnloadLabels { reason }).inc();
    }

    /// Shows what each version of some deployments takes; `shown` is what was shown before.
    pub(super) fn show(
        &self,
        deployments: &BTreeSet<String>,
        taken: impl Iterator<Item = (VersionLabels, Memory)>,
        shown: &mut ShownMemory,
    ) {
        let (mut versions, mut devices) = (BTreeMap::new(), BTreeMap::new());
        for (labels, memory) in taken {
            if let Some(DeviceMemory { index, bytes }) = memory.device {
                let VersionLabels { deployment, version } = labels.clone();
                devices.insert(DeviceLabels { deployment, version, device: index }, bytes);
            }
            versions.insert(labels, memory.bytes);
        }
        replace(deployments, &self.memory, versions, &mut shown.versions);
        replace(deployments, &self.device_memory, devices, &mut shown.devices);
    }
}

/// Labels that are sorted by deployment.
trait OfDeployment {
    fn deployment(&self) -> &str;
    /// The lowest labels of a deployment.
    fn first(deployment: &str) -> Self;
}

impl OfDeployment for VersionLabels {
    fn deployment(&self) -> &str {
        &self.deployment
    }

    fn first(deployment: &str) -> Self {
        Self { deployment: deployment.to_owned(), version: String::new() }
    }
}

impl OfDeployment for DeviceLabels {
    fn deployment(&self) -> &str {
        &self.deployment
    }

    fn first(deployment: &str) -> Self {
        Self { deployment: deployment.to_owned(), version: String::new(), device: 0 }
    }
}

/// Shows these and no others of some deployments; `shown` is what was shown before.
fn replace<L>(
    deployments: &BTreeSet<String>,
    family: &Family<L, Gauge>,
    taken: BTreeMap<L, u64>,
    shown: &mut BTreeSet<L>,
) where
    L: Clone + Ord + Hash + OfDeployment,
{
    for (labels, bytes) in &taken {
        family.get_or_create(labels).set(i64::try_from(*bytes).unwrap_or(i64::MAX));
    }
    for deployment in deployments {
        let of_it =
            shown.range(L::first(deployment)..).take_while(|labels| labels.deployment() == deployment);
        let gone: Vec<L> = of_it.filter(|labels| !taken.contains_key(labels)).cloned().collect();
        for labels in gone {
            family.remove(&labels);
            shown.remove(&labels);
        }
    }
    shown.extend(taken.into_keys());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shown_by_version_and_gpu_and_goes_with_them() {
        let metrics = Metrics::new();
        let meters = LoadMeters::register(&metrics);
        let labels = |version: &str| VersionLabels { deployment: "d".into(), version: version.into() };
        let on_gpu = Memory { bytes: 7, device: Some(DeviceMemory { index: 1, bytes: 500 }) };
        let mut shown = ShownMemory::default();
        let lines = |all: &[(VersionLabels, Memory)], shown: &mut ShownMemory| {
            meters.show(&BTreeSet::from(["d".to_owned()]), all.iter().cloned(), shown);
            let text = metrics.render();
            let of_models = text.lines().filter(|line| line.starts_with("slipway_serving_model_"));
            let mut lines: Vec<String> =
                of_models.map(|line| line.replace("slipway_serving_model_", "")).collect();
            lines.sort();
            lines
        };
        let device = "device_memory_bytes{deployment=\"d\",version=\"2\",device=\"1\"}";
        let memory = |version: &str| format!("memory_bytes{{deployment=\"d\",version=\"{version}\"}}");
        let on_cpu = (labels("1"), Memory { bytes: 9, device: None });
        assert_eq!(
            lines(&[on_cpu.clone(), (labels("2"), on_gpu)], &mut shown),
            [format!("{device} 500"), format!("{} 9", memory("1")), format!("{} 7", memory("2"))]
        );
        assert_eq!(
            lines(&[(labels("2"), on_gpu.freed())], &mut shown),
            [format!("{device} 0"), format!("{} 0", memory("2"))]
        );
        assert_eq!(lines(&[on_cpu], &mut shown), [format!("{} 9", memory("1"))]);
    }
}
