//! What serving counts, beside what every service counts; and the same under Triton's names.

use std::fmt::Write as _;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use slipway_api::predictions::Variant;
use slipway_service_kit::metrics::Metrics;

use crate::routing::Routing;

/// Buckets of the latency histogram: from 50 µs, doubling, to 26 s.
const SECONDS_FIRST_BUCKET: f64 = 0.000_05;
const SECONDS_BUCKETS: u16 = 20;
/// Ends an OpenMetrics text.
const END_OF_METRICS: &str = "# EOF\n";

/// Labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    deployment: String,
    version: String,
    variant: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabels {
    deployment: String,
    version: String,
    variant: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FallbackLabels {
    deployment: String,
    reason: &'static str,
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered.
    Success,
    /// The model failed.
    Failure,
    /// The inputs did not fit.
    Rejected,
    /// The queue was full.
    Overloaded,
    /// The client did not want to wait that long.
    Expired,
}

/// Why a request was answered by another version than the one drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// It is still loading, or does not load.
    NotReady,
    /// It failed on this request.
    Failed,
}

/// The counters. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ServingMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<VersionLabels, Histogram>,
    fallbacks: Family<FallbackLabels, Counter>,
    records_dropped: Family<ReasonLabels, Counter>,
    records_published: Counter,
    records_without_tensors: Counter,
    shadows_dropped: Counter,
}

impl ServingMetrics {
    /// Counters that `metrics` shows.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let serving = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(SECONDS_FIRST_BUCKET, 2.0, SECONDS_BUCKETS))
            }),
            fallbacks: Family::default(),
            records_dropped: Family::default(),
            records_published: Counter::default(),
            records_without_tensors: Counter::default(),
            shadows_dropped: Counter::default(),
        };
        metrics.register(
            "serving_requests",
            "Predictions by version, variant and outcome",
            serving.requests.clone(),
        );
        metrics.register(
            "serving_seconds",
            "Time in queue and model of a prediction",
            serving.seconds.clone(),
        );
        metrics.register(
            "serving_fallbacks",
            "Requests answered by the stable version in place of the one drawn",
            serving.fallbacks.clone(),
        );
        metrics.register(
            "serving_records_dropped",
            "Prediction records that were not published",
            serving.records_dropped.clone(),
        );
        metrics.register(
            "serving_records_published",
            "Prediction records on the stream",
            serving.records_published.clone(),
        );
        metrics.register(
            "serving_records_without_tensors",
            "Prediction records of requests too large to record whole",
            serving.records_without_tensors.clone(),
        );
        metrics.register(
            "serving_shadows_dropped",
            "Copies not sent to a shadow: too many at once",
            serving.shadows_dropped.clone(),
        );
        serving
    }

    /// Counts one run of one version.
    pub(crate) fn request(
        &self,
        deployment: &str,
        version: &str,
        variant: Variant,
        outcome: Outcome,
        took: Duration,
    ) {
        let variant = variant_name(variant);
        let outcome_name = match outcome {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Rejected => "rejected",
            Outcome::Overloaded => "overloaded",
            Outcome::Expired => "expired",
        };
        let (deployment, version) = (deployment.to_owned(), version.to_owned());
        let labels = RequestLabels {
            deployment: deployment.clone(),
            version: version.clone(),
            variant,
            outcome: outcome_name,
        };
        self.requests.get_or_create(&labels).inc();
        if outcome == Outcome::Success {
            let labels = VersionLabels { deployment, version, variant };
            self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// Counts a request that the stable version answered in place of another.
    pub(crate) fn fallback(&self, deployment: &str, reason: Fallback) {
        let reason = match reason {
            Fallback::NotReady => "not-ready",
            Fallback::Failed => "failed",
        };
        self.fallbacks.get_or_create(&FallbackLabels { deployment: deployment.to_owned(), reason }).inc();
    }

    /// Counts records that are lost.
    pub(crate) fn records_dropped(&self, reason: &'static str, count: usize) {
        self.records_dropped.get_or_create(&ReasonLabels { reason }).inc_by(count as u64);
    }

    /// Counts records that are on the stream.
    pub(crate) fn records_published(&self, count: usize) {
        self.records_published.inc_by(count as u64);
    }

    /// Counts a record that says everything but the tensors.
    pub(crate) fn record_without_tensors(&self) {
        self.records_without_tensors.inc();
    }

    /// Counts a copy that no shadow got.
    pub(crate) fn shadow_dropped(&self) {
        self.shadows_dropped.inc();
    }
}

/// Name of a variant in labels.
const fn variant_name(variant: Variant) -> &'static str {
    match variant {
        Variant::Stable => "stable",
        Variant::Candidate => "candidate",
        Variant::Shadow => "shadow",
        Variant::Pinned => "pinned",
    }
}

/// The OpenMetrics text of all metrics, with Triton's names for what both count.
pub(crate) fn render(metrics: &Metrics, routing: &Routing) -> String {
    let mut text = metrics.render();
    if text.ends_with(END_OF_METRICS) {
        text.truncate(text.len() - END_OF_METRICS.len());
    }
    let routes = routing.all();
    let rows: Vec<_> = routes
        .iter()
        .flat_map(|(name, route)| route.versions.values().map(move |version| (name, version)))
        .map(|(name, version)| (name, &version.target.version, version.stats.snapshot()))
        .collect();
    type Reader = fn(&crate::stats::Snapshot) -> u64;
    let families: [(&str, &str, Reader); 9] = [
        ("nv_inference_request_success", "Successful requests", |stats| stats.success),
        ("nv_inference_request_failure", "Failed requests", |stats| stats.fail),
        ("nv_inference_count", "Rows inferred", |stats| stats.rows),
        ("nv_inference_exec_count", "Runs of the model", |stats| stats.success),
        ("nv_inference_request_duration_us", "Time of successful requests", |stats| stats.success_ns / 1000),
        ("nv_inference_queue_duration_us", "Time in queues", |stats| stats.queue_ns / 1000),
        ("nv_inference_compute_input_duration_us", "Time copying inputs", |stats| stats.input_ns / 1000),
        ("nv_inference_compute_infer_duration_us", "Time in models", |stats| stats.compute_ns / 1000),
        ("nv_inference_compute_output_duration_us", "Time copying outputs", |stats| stats.output_ns / 1000),
    ];
    for (family, help, read) in families {
        // Triton's counters have no `_total`, which OpenMetrics asks of counters; so their type stays open.
        // Writing into a string cannot fail.
        let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} unknown");
        for (model, version, stats) in &rows {
            let _ = writeln!(text, "{family}{{model=\"{model}\",version=\"{version}\"}} {}", read(stats));
        }
    }
    text.push_str(END_OF_METRICS);
    text
}
