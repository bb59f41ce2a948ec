//! What replicas of dedicated deployments have done in the last seconds, by their reports.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use slipway_api::traffic::DeploymentLoad;

/// Reports older than this do not count.
const WINDOW: Duration = Duration::from_secs(10);
/// A replica that has not reported for so long has no load.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// The reports of the last seconds. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loads(Arc<Mutex<BTreeMap<Key, VecDeque<Report>>>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    deployment: String,
    replica_id: String,
}

#[derive(Debug, Clone)]
struct Report {
    at: Instant,
    load: DeploymentLoad,
}

/// What a replica does for a deployment: means of the last 10 seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Load {
    pub(crate) replica_id: String,
    /// Requests that are being answered.
    pub(crate) in_flight: f64,
    /// Requests per second, failed ones included.
    pub(crate) requests: f64,
    /// Failed requests per second.
    pub(crate) errors: f64,
    /// Time from a request to its answer, in milliseconds.
    pub(crate) latency_ms: f64,
    /// Time that a request waits for a run, in milliseconds.
    pub(crate) queue_ms: f64,
}

impl Loads {
    /// Takes a report of a replica.
    pub(super) fn hear(&self, replica_id: &str, at: Instant, load: &[DeploymentLoad]) {
        if load.is_empty() {
            return;
        }
        let mut known = self.lock();
        for load in load {
            let key = Key { deployment: load.deployment.clone(), replica_id: replica_id.to_owned() };
            let reports = known.entry(key).or_default();
            reports.push_back(Report { at, load: load.clone() });
            // One that is too old stays: differences begin with it.
            while reports.get(1).is_some_and(|second| at.duration_since(second.at) >= WINDOW) {
                reports.pop_front();
            }
        }
    }

    /// A replica has left.
    pub(super) fn forget(&self, replica_id: &str) {
        self.lock().retain(|key, _| key.replica_id != replica_id);
    }

    /// What all replicas do, by deployment.
    pub(crate) fn all(&self) -> BTreeMap<String, Vec<Load>> {
        let now = Instant::now();
        let mut known = self.lock();
        known.retain(|_, reports| {
            reports.back().is_some_and(|last| now.saturating_duration_since(last.at) < SILENT_AFTER)
        });
        let mut loads: BTreeMap<String, Vec<Load>> = BTreeMap::new();
        for (key, reports) in known.iter() {
            if let Some(load) = mean(&key.replica_id, reports) {
                loads.entry(key.deployment.clone()).or_default().push(load);
            }
        }
        loads
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, VecDeque<Report>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::cast_precision_loss, reason = "means of counts")]
fn mean(replica_id: &str, reports: &VecDeque<Report>) -> Option<Load> {
    let (first, last) = (reports.front()?, reports.back()?);
    let in_flight: u64 = reports.iter().map(|report| report.load.in_flight).sum();
    let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
    let between = |sum: fn(&DeploymentLoad) -> u64| {
        // A version that left the deployment takes its counts along.
        sum(&last.load).saturating_sub(sum(&first.load)) as f64
    };
    let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    let (requests, errors) = (between(|load| load.requests), between(|load| load.errors));
    let all = requests + errors;
    let each_ms = |us: f64| if all > 0.0 { us / all / 1_000.0 } else { 0.0 };
    Some(Load {
        replica_id: replica_id.to_owned(),
        in_flight: in_flight as f64 / reports.len() as f64,
        requests: per_second(all),
        errors: per_second(errors),
        latency_ms: each_ms(between(|load| load.latency_us)),
        queue_ms: each_ms(between(|load| load.queue_us)),
    })
}

/// Loads of deployments at each scrape.
#[derive(Debug)]
pub(crate) struct LoadMetrics(pub(crate) Loads);

/// Name, help and value of a metric.
type Shown = (&'static str, &'static str, fn(&[Load]) -> f64);

/// What is shown of a deployment, as its replicas have reported it in the last 10 seconds.
const SHOWN: [Shown; 5] = [
    ("slipway_deployment_replicas", "Replicas that report on the deployment", |loads| loads.len() as f64),
    ("slipway_deployment_in_flight_requests", "Requests that are being answered", |loads| {
        loads.iter().map(|load| load.in_flight).sum()
    }),
    ("slipway_deployment_requests_per_second", "Requests per second, failed ones included", |loads| {
        loads.iter().map(|load| load.requests).sum()
    }),
    ("slipway_deployment_errors_per_second", "Failed requests per second", |loads| {
        loads.iter().map(|load| load.errors).sum()
    }),
    ("slipway_deployment_latency_milliseconds", "Mean time from a request to its answer", |loads| {
        let requests: f64 = loads.iter().map(|load| load.requests).sum();
        let total: f64 = loads.iter().map(|load| load.latency_ms * load.requests).sum();
        if requests > 0.0 { total / requests } else { 0.0 }
    }),
];

impl Collector for LoadMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all();
        for (name, help, value) in SHOWN {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (deployment, loads) in &all {
                let labels = [("deployment", deployment.as_str())];
                ConstGauge::new(value(loads)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(in_flight: u64, requests: u64, errors: u64, latency_us: u64) -> Vec<DeploymentLoad> {
        let deployment = "ml_fraud".to_owned();
        vec![DeploymentLoad {
            deployment,
            in_flight,
            requests,
            errors,
            latency_us,
            queue_us: latency_us / 10,
        }]
    }

    /// What the replicas of a deployment do.
    fn of(loads: &Loads, deployment: &str) -> Vec<Load> {
        loads.all().remove(deployment).unwrap_or_default()
    }

    #[test]
    fn a_load_is_the_mean_of_the_last_seconds() {
        let (loads, now) = (Loads::default(), Instant::now());
        let ago = |seconds: u64| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        loads.hear("a", ago(30), &load(50, 0, 0, 0));
        loads.hear("a", ago(10), &load(4, 1_000, 0, 2_000_000));
        loads.hear("a", now, &load(8, 1_090, 10, 4_000_000));
        let found = of(&loads, "ml_fraud");
        assert_eq!(found.len(), 1);
        let Load { in_flight, requests, errors, latency_ms, queue_ms, .. } = &found[0];
        assert!((in_flight - 6.0).abs() < 0.01, "{found:?}");
        assert!((requests - 10.0).abs() < 0.1 && (errors - 1.0).abs() < 0.1, "{found:?}");
        assert!((latency_ms - 20.0).abs() < 0.01 && (queue_ms - 2.0).abs() < 0.01, "{found:?}");
        assert_eq!(of(&loads, "other"), []);
    }

    #[test]
    fn a_replica_that_left_or_is_silent_has_no_load() {
        let (loads, now) = (Loads::default(), Instant::now());
        loads.hear("a", now, &load(1, 0, 0, 0));
        loads.hear("b", now.checked_sub(SILENT_AFTER).unwrap(), &load(1, 0, 0, 0));
        let replicas: Vec<String> = of(&loads, "ml_fraud").into_iter().map(|load| load.replica_id).collect();
        assert_eq!(replicas, ["a"]);
        loads.forget("a");
        assert_eq!(of(&loads, "ml_fraud"), []);
    }

    #[test]
    fn metrics_are_the_sums_of_a_deployment() {
        let (loads, now) = (Loads::default(), Instant::now());
        for replica in ["a", "b"] {
            loads.hear(replica, now, &load(3, 0, 0, 0));
        }
        let metrics = slipway_service_kit::metrics::Metrics::new();
        metrics.collect(LoadMetrics(loads));
        let text = metrics.render();
        for line in [
            "slipway_deployment_replicas{deployment=\"ml_fraud\"} 2.0",
            "slipway_deployment_in_flight_requests{deployment=\"ml_fraud\"} 6.0",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
