//! Prometheus metrics: a registry that services add to, and what every HTTP server counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use crate::exposition;

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

impl Metrics {
    /// A registry whose metrics all begin with `slipway_`.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("slipway");
        let http = HttpMetrics {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| times(exponential_buckets(0.0005, 2.0, 16))),
        };
        registry.register("http_requests", "Requests by route and status", http.requests.clone());
        registry.register("http_request_seconds", "Response time, by route", http.seconds.clone());
        Self { registry: Arc::new(Mutex::new(registry)), collected: Arc::default(), http }
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

    /// Adds a metric; keep a clone of it to count with. A counter's `_total` is added to its name when it is shown.
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

/// The name of a method that RFC 9110 or RFC 5789 defines. Clients may make up others without end, so those are nobody's label.
pub(crate) fn known_method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| method == known)
}

/// Middleware: counts each request under its route pattern, so that ids in paths do not multiply the series.
pub(crate) async fn count_requests(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let method = known_method(request.method()).unwrap_or("OTHER").to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    let labels = RouteLabels { method: method.clone(), route: route.clone() };
    metrics.http.seconds.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    let labels = RequestLabels { method, route, status: response.status().as_u16() };
    metrics.http.requests.get_or_create(&labels).inc();
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn methods_that_clients_make_up_are_one_series() {
        let metrics = Metrics::new();
        let app: Router = Router::new().layer(from_fn_with_state(metrics.clone(), count_requests));
        for method in ["GET", "PATCH", "M1X1", "M2X2", "get"] {
            let request = Request::builder().method(method).body(Body::empty()).unwrap();
            app.clone().oneshot(request).await.unwrap();
        }
        let text = metrics.render();
        let mut counted: Vec<&str> =
            text.lines().filter(|line| line.starts_with("slipway_http_requests_total")).collect();
        counted.sort_unstable();
        assert_eq!(counted.len(), 3, "{counted:?}");
        assert!(counted[1].contains("\"OTHER\"") && counted[1].ends_with(" 3"), "{counted:?}");
    }
}
