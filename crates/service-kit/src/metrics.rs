//! Prometheus metrics: a registry that services add to, and the requests that every HTTP server counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use crate::exposition;
use crate::process::Process;

/// Buckets of native histograms are this far apart, or a little closer…
const NATIVE_FACTOR: f64 = 1.1;
/// …until there are more of them, which only times from microseconds to minutes need; then they are joined.
const NATIVE_BUCKETS: usize = 160;

/// Content type of the text that [`Metrics::render`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry of metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// Of what has its own names.
    collected: Arc<Mutex<Registry>>,
    http: HttpMetrics,
}

#[derive(Debug, Clone)]
struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

impl Metrics {
    /// A registry whose metrics all begin with `slipway_`, except those of the process.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("slipway");
        let http = HttpMetrics {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| times(exponential_buckets(0.0005, 2.0, 16))),
        };
        registry.register("http_requests", "Requests by route and status", http.requests.clone());
        registry.register("http_request_seconds", "Response time, by route", http.seconds.clone());
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "Version of the program; always 1", build);
        let mut collected = Registry::default();
        collected.register_collector(Box::new(Process::starting()));
        let (registry, collected) = (Arc::new(Mutex::new(registry)), Arc::new(Mutex::new(collected)));
        Self { registry, collected, http }
    }

    /// Counts requests of one route without looking it up at each.
    pub fn route(&self, method: &str, route: &str) -> RouteMeter {
        let (method, route) = (method.to_owned(), route.to_owned());
        let labels = RouteLabels { method: method.clone(), route: route.clone() };
        let ok = RequestLabels { method, route, status: 200 };
        RouteMeter {
            seconds: self.http.seconds.get_or_create_owned(&labels),
            ok: self.http.requests.get_or_create_owned(&ok),
            others: self.http.requests.clone(),
            labels,
        }
    }

    /// Counts a request of any route.
    pub fn observe_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        let labels = RouteLabels { method: method.clone(), route: route.clone() };
        self.http.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.http.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    }

    /// Adds a metric; keep a clone of it to count with. A counter's `_total` is added to its name when it is
    /// shown.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        lock(&self.registry).register(name, help, metric);
    }

    /// Adds what is counted elsewhere; its names are shown as they are.
    pub fn collect(&self, collector: impl Collector) {
        lock(&self.collected).register_collector(Box::new(collector));
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for registry in [&self.registry, &self.collected] {
            // Writing into a string cannot fail.
            let _ = encode_registry(&mut text, &lock(registry));
        }
        let _ = encode_eof(&mut text);
        text
    }

    /// All metrics as Prometheus' messages, histograms as native ones, too.
    pub fn render_protobuf(&self) -> Vec<u8> {
        let mut encoded = Vec::new();
        for registry in [&self.registry, &self.collected] {
            // A vector takes everything.
            exposition::put_messages(&lock(registry), &mut encoded);
        }
        encoded
    }
}

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A histogram of times: these buckets in text, and a native one, for scrapers that ask for it.
pub fn times(buckets: impl IntoIterator<Item = f64>) -> Histogram {
    let native = NativeHistogramConfig::new(NATIVE_FACTOR).max_buckets(NATIVE_BUCKETS);
    Histogram::new_classic_and_native(buckets, native)
}

/// See [`Metrics::route`].
#[derive(Debug, Clone)]
pub struct RouteMeter {
    labels: RouteLabels,
    seconds: Histogram,
    ok: Counter,
    others: Family<RequestLabels, Counter>,
}

impl RouteMeter {
    /// Counts an answer.
    pub fn observe(&self, status: u16, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        if status == 200 {
            self.ok.inc();
            return;
        }
        let RouteLabels { method, route } = self.labels.clone();
        self.others.get_or_create(&RequestLabels { method, route, status }).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status_however_they_are_observed() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        let meter = metrics.route("POST", "/infer");
        meter.observe(200, took);
        meter.observe(503, took);
        metrics.observe_request("POST", "/infer", 200, took);
        metrics.observe_request("GET", "/jobs", 404, took);
        let text = metrics.render();
        for line in [
            r#"slipway_http_requests_total{method="POST",route="/infer",status="200"} 2"#,
            r#"slipway_http_requests_total{method="POST",route="/infer",status="503"} 1"#,
            r#"slipway_http_requests_total{method="GET",route="/jobs",status="404"} 1"#,
            r#"slipway_http_request_seconds_count{method="POST",route="/infer"} 3"#,
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains(r#"route="/jobs",status="200""#), "{text}");
    }

    #[test]
    fn names_of_registered_metrics_have_a_prefix_and_a_help() {
        let metrics = Metrics::new();
        let counted = Counter::<u64>::default();
        metrics.register("jobs_submitted", "Jobs submitted", counted.clone());
        counted.inc_by(2);
        let text = metrics.render();
        assert!(text.contains("# HELP slipway_jobs_submitted Jobs submitted."), "{text}");
        assert!(text.contains("\nslipway_jobs_submitted_total 2\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn times_have_classic_buckets_in_text_and_native_ones_in_messages() {
        let metrics = Metrics::new();
        let seconds = times([0.1, 1.0]);
        metrics.register("job_seconds", "Time of a job", seconds.clone());
        seconds.observe(0.5);
        let text = metrics.render();
        assert!(text.contains(r#"slipway_job_seconds_bucket{le="0.1"} 0"#), "{text}");
        assert!(text.contains(r#"slipway_job_seconds_bucket{le="1.0"} 1"#), "{text}");
        assert!(metrics.render_protobuf().len() > 50);
    }
}
