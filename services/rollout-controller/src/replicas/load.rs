//! What replicas of dedicated deployments, and pools, have done in the last seconds, by their reports.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use slipway_api::traffic::{DeploymentLoad, ReplicaStatus};

use crate::copies::Copies;

/// Reports older than this do not count.
const WINDOW: Duration = Duration::from_secs(10);
/// A replica that has not reported for so long has no load.
const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Requests with a longer pause between them do not come without a pause.
const PAUSE: Duration = Duration::from_secs(5);

/// The reports of the last seconds. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loads(Arc<Mutex<BTreeMap<Key, Known>>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    deployment: String,
    replica_id: String,
}

/// What is known of a replica's work for a deployment.
#[derive(Debug, Clone)]
struct Known {
    reports: VecDeque<Report>,
    /// Whether it is a replica of a pool.
    is_pool: bool,
    /// When a request was seen last; the first report at the earliest.
    last_request: Instant,
    /// Since when requests have come without a pause.
    asked_since: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Report {
    at: Instant,
    load: DeploymentLoad,
    cpu_us: u64,
    gpu_percent: Option<u8>,
}

impl Report {
    const fn answered(&self) -> u64 {
        self.load.requests + self.load.errors
    }
}

/// What a replica does for a deployment: means of the last 10 seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Load {
    pub(crate) replica_id: String,
    /// Whether it is a replica of a pool.
    pub(crate) is_pool: bool,
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
    /// CPU cores that its process uses; 0 for a replica of several deployments.
    pub(crate) cpu_cores: f64,
    /// Share of the time in which its GPUs compute, in percent.
    pub(crate) gpu_percent: f64,
}

/// When requests came for a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requested {
    /// Time since the last one.
    pub(crate) quiet_for: Duration,
    /// Time for which they have come to a pool without a pause.
    pub(crate) asked_for: Duration,
    /// Time since the last one to a pool.
    pub(crate) pool_quiet_for: Duration,
}

impl Loads {
    /// Takes a report of a replica.
    pub(crate) fn hear(&self, status: &ReplicaStatus, at: Instant) {
        if status.load.is_empty() {
            return;
        }
        let is_pool = status.is_pool();
        let is_own = !is_pool && status.load.len() == 1;
        let mut all = self.lock();
        for load in &status.load {
            let replica_id = status.replica_id.clone();
            let key = Key { deployment: load.deployment.clone(), replica_id };
            let report = Report {
                at,
                load: load.clone(),
                cpu_us: if is_own { status.cpu_us } else { 0 },
                gpu_percent: status.gpu_percent.filter(|_| is_own),
            };
            let known = all.entry(key).or_insert_with(|| Known {
                reports: VecDeque::new(),
                is_pool,
                last_request: at,
                asked_since: None,
            });
            known.hear(report);
        }
    }

    /// A replica has left.
    pub(super) fn forget(&self, replica_id: &str) {
        self.lock().retain(|key, _| key.replica_id != replica_id);
    }

    /// What all replicas do, by deployment.
    pub(crate) fn all(&self) -> BTreeMap<String, Vec<Load>> {
        let mut loads: BTreeMap<String, Vec<Load>> = BTreeMap::new();
        for (key, known) in self.live().iter() {
            if let Some(load) = known.mean(&key.replica_id) {
                loads.entry(key.deployment.clone()).or_default().push(load);
            }
        }
        loads
    }

    /// When requests came for a deployment; `None` where no replica reports on it.
    pub(crate) fn requested(&self, deployment: &str) -> Option<Requested> {
        let now = Instant::now();
        let since = |at: Instant| now.saturating_duration_since(at);
        let live = self.live();
        let known: Vec<&Known> =
            live.iter().filter(|(key, _)| key.deployment == deployment).map(|(_, known)| known).collect();
        let quiet_for = known.iter().map(|known| since(known.last_request)).min()?;
        let pool = || known.iter().filter(|known| known.is_pool);
        let asked_for = |known: &Known| {
            let is_asked = since(known.last_request) < PAUSE;
            let begun = known.asked_since.filter(|_| is_asked)?;
            Some(known.last_request.saturating_duration_since(begun))
        };
        Some(Requested {
            quiet_for,
            asked_for: pool().filter_map(|known| asked_for(known)).max().unwrap_or_default(),
            pool_quiet_for: pool().map(|known| since(known.last_request)).min().unwrap_or(Duration::MAX),
        })
    }

    /// What is known of replicas that still report.
    fn live(&self) -> MutexGuard<'_, BTreeMap<Key, Known>> {
        let now = Instant::now();
        let mut known = self.lock();
        known.retain(|_, known| {
            let last = known.reports.back();
            last.is_some_and(|last| now.saturating_duration_since(last.at) < SILENT_AFTER)
        });
        known
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn hear(&mut self, report: Report) {
        let at = report.at;
        let before = self.reports.back();
        let is_asked = report.load.in_flight > 0
            || before.is_some_and(|before| report.answered() > before.answered())
            // The pool begins to report with the first request.
            || (before.is_none() && self.is_pool && report.answered() > 0);
        if is_asked {
            let is_new = at.saturating_duration_since(self.last_request) >= PAUSE;
            if is_new || self.asked_since.is_none() {
                self.asked_since = Some(at);
            }
            self.last_request = at;
        }
        self.reports.push_back(report);
        // One that is too old stays: differences begin with it.
        while self.reports.get(1).is_some_and(|second| at.duration_since(second.at) >= WINDOW) {
            self.reports.pop_front();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "means of counts")]
    fn mean(&self, replica_id: &str) -> Option<Load> {
        let reports = &self.reports;
        let (first, last) = (reports.front()?, reports.back()?);
        let in_flight: u64 = reports.iter().map(|report| report.load.in_flight).sum();
        let gpu_percent: u64 = reports.iter().filter_map(|report| report.gpu_percent.map(u64::from)).sum();
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        let between = |sum: fn(&Report) -> u64| {
            // A version that left the deployment takes its counts along.
            sum(last).saturating_sub(sum(first)) as f64
        };
        let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        let (requests, errors) =
            (between(|report| report.load.requests), between(|report| report.load.errors));
        let all = requests + errors;
        let each_ms = |us: f64| if all > 0.0 { us / all / 1_000.0 } else { 0.0 };
        Some(Load {
            replica_id: replica_id.to_owned(),
            is_pool: self.is_pool,
            in_flight: in_flight as f64 / reports.len() as f64,
            requests: per_second(all),
            errors: per_second(errors),
            latency_ms: each_ms(between(|report| report.load.latency_us)),
            queue_ms: each_ms(between(|report| report.load.queue_us)),
            cpu_cores: per_second(between(|report| report.cpu_us)) / 1e6,
            gpu_percent: gpu_percent as f64 / reports.len() as f64,
        })
    }
}

/// Loads and weights of deployments at each scrape.
#[derive(Debug)]
pub(crate) struct LoadMetrics {
    pub(crate) loads: Loads,
    pub(crate) copies: Copies,
}

/// Name, help and value of a metric.
type Shown = (&'static str, &'static str, fn(&[Load]) -> f64);

/// What is shown of a deployment, as its replicas have reported it in the last 10 seconds.
const SHOWN: [Shown; 6] = [
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
    ("slipway_deployment_cpu_cores", "CPU cores that the deployment's own replicas use", |loads| {
        loads.iter().map(|load| load.cpu_cores).sum()
    }),
];

impl Collector for LoadMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.loads.all();
        for (name, help, value) in SHOWN {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (deployment, loads) in &all {
                let labels = [("deployment", deployment.as_str())];
                ConstGauge::new(value(loads)).encode(family.encode_family(&labels)?)?;
            }
        }
        let (name, help) = ("slipway_deployment_weight_percent", "Share of the traffic of a version");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for deployment in all.keys() {
            for (target, weight) in self.copies.weights(deployment) {
                let labels = [("deployment", deployment.as_str()), ("version", target.version.as_str())];
                ConstGauge::new(f64::from(weight)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(replica: &str, in_flight: u64, requests: u64, errors: u64, latency_us: u64) -> ReplicaStatus {
        let deployment = "ml_fraud".to_owned();
        let queue_us = latency_us / 10;
        let load = DeploymentLoad { deployment, in_flight, requests, errors, latency_us, queue_us };
        let cpu_us = latency_us;
        let gpu_percent = Some(40);
        ReplicaStatus {
            replica_id: replica.to_owned(),
            load: vec![load],
            cpu_us,
            gpu_percent,
            ..ReplicaStatus::default()
        }
    }

    fn of_pool(requests: u64) -> ReplicaStatus {
        ReplicaStatus { deployments: Some(vec!["ml_*".to_owned()]), ..load("pool", 0, requests, 0, 0) }
    }

    /// What the replicas of a deployment do.
    fn of(loads: &Loads, deployment: &str) -> Vec<Load> {
        loads.all().remove(deployment).unwrap_or_default()
    }

    fn ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn a_load_is_the_mean_of_the_last_seconds() {
        let (loads, now) = (Loads::default(), Instant::now());
        let ago = |seconds: u64| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        loads.hear(&load("a", 50, 0, 0, 0), ago(30));
        loads.hear(&load("a", 4, 1_000, 0, 2_000_000), ago(10));
        loads.hear(&load("a", 8, 1_090, 10, 4_000_000), now);
        let found = of(&loads, "ml_fraud");
        assert_eq!(found.len(), 1);
        let Load { in_flight, requests, errors, latency_ms, queue_ms, cpu_cores, gpu_percent, .. } =
            &found[0];
        assert!((in_flight - 6.0).abs() < 0.01, "{found:?}");
        assert!((requests - 10.0).abs() < 0.1 && (errors - 1.0).abs() < 0.1, "{found:?}");
        assert!((latency_ms - 20.0).abs() < 0.01 && (queue_ms - 2.0).abs() < 0.01, "{found:?}");
        assert!((cpu_cores - 0.2).abs() < 0.01 && (gpu_percent - 40.0).abs() < 0.01, "{found:?}");
        assert_eq!(of(&loads, "other"), []);
    }

    #[test]
    fn a_replica_that_left_or_is_silent_has_no_load() {
        let (loads, now) = (Loads::default(), Instant::now());
        loads.hear(&load("a", 1, 0, 0, 0), now);
        loads.hear(&load("b", 1, 0, 0, 0), now.checked_sub(SILENT_AFTER).unwrap());
        let replicas: Vec<String> = of(&loads, "ml_fraud").into_iter().map(|load| load.replica_id).collect();
        assert_eq!(replicas, ["a"]);
        loads.forget("a");
        assert_eq!(of(&loads, "ml_fraud"), []);
        assert_eq!(loads.requested("ml_fraud"), None);
    }

    #[test]
    fn it_is_known_since_when_there_was_no_request_and_since_when_there_are_some() {
        let loads = Loads::default();
        for seconds in [40, 30, 20, 10] {
            loads.hear(&load("a", 0, 7, 0, 0), ago(seconds));
        }
        loads.hear(&load("a", 0, 7, 0, 0), ago(0));
        let quiet = loads.requested("ml_fraud").unwrap();
        assert!(quiet.quiet_for >= Duration::from_secs(40), "{quiet:?}");
        assert_eq!((quiet.asked_for, quiet.pool_quiet_for), (Duration::ZERO, Duration::MAX));
        // One request, and later some without a pause.
        for (seconds, requests) in [(30, 1), (20, 1), (4, 2), (2, 3), (0, 4)] {
            loads.hear(&of_pool(requests), ago(seconds));
        }
        let asked = loads.requested("ml_fraud").unwrap();
        assert!(asked.quiet_for < Duration::from_secs(1), "{asked:?}");
        assert_eq!(asked.asked_for.as_secs_f64().round(), 4.0, "{asked:?}");
        assert_eq!(asked.pool_quiet_for, asked.quiet_for);
        assert!(of(&loads, "ml_fraud").iter().any(|load| load.is_pool));
    }

    #[test]
    fn metrics_are_the_sums_of_a_deployment() {
        let (loads, now) = (Loads::default(), Instant::now());
        for replica in ["a", "b"] {
            loads.hear(&load(replica, 3, 0, 0, 0), now);
        }
        let metrics = slipway_service_kit::metrics::Metrics::new();
        metrics.collect(LoadMetrics { loads, copies: Copies::default() });
        let text = metrics.render();
        for line in [
            "slipway_deployment_replicas{deployment=\"ml_fraud\"} 2.0",
            "slipway_deployment_in_flight_requests{deployment=\"ml_fraud\"} 6.0",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
