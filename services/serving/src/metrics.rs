//! What serving counts, next to what every service counts.

use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use slipway_api::predictions::Variant;
use slipway_api::traffic::{Drill, DrillTarget, Fault};
use slipway_service_kit::metrics::Metrics;

use crate::stats::Run;

/// Buckets of the latency histograms in text: from 20 µs, doubling, to 84 s.
const SECONDS_FIRST_BUCKET: f64 = 0.000_02;
const SECONDS_BUCKETS: u16 = 23;
/// Buckets of the rows of a run: from 1, doubling, to 1024.
const ROWS_BUCKETS: u16 = 11;

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
struct DeploymentLabels {
    deployment: String,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrillLabels {
    deployment: String,
    fault: &'static str,
    target: &'static str,
    outcome: &'static str,
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
    queue_seconds: Family<VersionLabels, Histogram>,
    compute_seconds: Family<VersionLabels, Histogram>,
    run_rows: Family<VersionLabels, Histogram>,
    non_finite: Family<VersionLabels, Counter>,
    fallbacks: Family<FallbackLabels, Counter>,
    records_dropped: Family<ReasonLabels, Counter>,
    records_published: Counter,
    records_without_tensors: Counter,
    records_sampled: Counter,
    shadows_dropped: Counter,
    drill_requests: Family<DrillLabels, Counter>,
    labels: Family<DeploymentLabels, Counter>,
    last_label: Family<DeploymentLabels, Gauge>,
}

impl ServingMetrics {
    /// Counters that `metrics` shows.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let serving = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(times),
            queue_seconds: Family::new_with_constructor(times),
            compute_seconds: Family::new_with_constructor(times),
            run_rows: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(1.0, 2.0, ROWS_BUCKETS))
            }),
            non_finite: Family::default(),
            fallbacks: Family::default(),
            records_dropped: Family::default(),
            records_published: Counter::default(),
            records_without_tensors: Counter::default(),
            records_sampled: Counter::default(),
            shadows_dropped: Counter::default(),
            drill_requests: Family::default(),
            labels: Family::default(),
            last_label: Family::default(),
        };
        serving.show_requests(metrics);
        serving.show_records(metrics);
        serving.show_labels(metrics);
        serving
    }

    fn show_requests(&self, metrics: &Metrics) {
        metrics.register(
            "serving_requests",
            "Predictions by version, variant and outcome",
            self.requests.clone(),
        );
        metrics.register("serving_seconds", "Time in queue and model of a prediction", self.seconds.clone());
        for (name, help, family) in [
            ("serving_queue_seconds", "Time that predictions were queued", &self.queue_seconds),
            ("serving_compute_seconds", "Time in the model of predictions", &self.compute_seconds),
            ("serving_run_rows", "Rows of one run, joined from all queued requests", &self.run_rows),
        ] {
            metrics.register(name, help, family.clone());
        }
        metrics.register(
            "serving_non_finite_outputs",
            "Values of answers that are NaN or infinite",
            self.non_finite.clone(),
        );
        metrics.register(
            "serving_fallbacks",
            "Requests answered by the stable version in place of the selected one",
            self.fallbacks.clone(),
        );
    }

    fn show_labels(&self, metrics: &Metrics) {
        metrics.register("serving_labels", "Labels that this replica has stored", self.labels.clone());
        metrics.register(
            "serving_last_label_timestamp_seconds",
            "When this replica stored the last label, in seconds since 1970",
            self.last_label.clone(),
        );
    }

    fn show_records(&self, metrics: &Metrics) {
        // From the start: Prometheus does not see the increase of a series that begins with 1.
        for reason in ["queue-full", "shutdown", "not-json"] {
            self.records_dropped.get_or_create(&ReasonLabels { reason }).inc_by(0);
        }
        metrics.register(
            "serving_records_dropped",
            "Prediction records that were not published",
            self.records_dropped.clone(),
        );
        metrics.register(
            "serving_records_published",
            "Prediction records on the stream",
            self.records_published.clone(),
        );
        metrics.register(
            "serving_records_without_tensors",
            "Prediction records without tensors: one row alone is too large to record",
            self.records_without_tensors.clone(),
        );
        metrics.register(
            "serving_records_sampled",
            "Prediction records of requests too large to record whole, which hold a sample of the rows",
            self.records_sampled.clone(),
        );
        metrics.register(
            "serving_shadows_dropped",
            "Copies not sent to a shadow: too many in flight",
            self.shadows_dropped.clone(),
        );
        metrics.register(
            "serving_drill_requests",
            "Requests of fault drills: copies, or users' requests that met the fault",
            self.drill_requests.clone(),
        );
    }

    /// Counts a request that the stable version answered in place of another.
    pub(crate) fn fallback(&self, deployment: &str, reason: Fallback) {
        let reason = match reason {
            Fallback::NotReady => "not-ready",
            Fallback::Failed => "failed",
        };
        self.fallbacks.get_or_create(&FallbackLabels { deployment: deployment.to_owned(), reason }).inc();
    }

    /// Counts labels that are stored.
    pub(crate) fn labelled(&self, deployment: &str, count: usize, now_unix_ms: u64) {
        let labels = DeploymentLabels { deployment: deployment.to_owned() };
        self.labels.get_or_create(&labels).inc_by(count as u64);
        let seconds = i64::try_from(now_unix_ms / 1_000).unwrap_or(i64::MAX);
        self.last_label.get_or_create(&labels).set(seconds);
    }

    /// Counts records that are lost.
    pub(crate) fn records_dropped(&self, reason: &'static str, count: usize) {
        self.records_dropped.get_or_create(&ReasonLabels { reason }).inc_by(count as u64);
    }

    /// Counts records that are on the stream.
    pub(crate) fn records_published(&self, count: usize) {
        self.records_published.inc_by(count as u64);
    }

    /// Counts a record of some of the request's rows, or of none of them.
    pub(crate) fn record_sampled(&self, empty: bool) {
        if empty {
            self.records_without_tensors.inc();
        } else {
            self.records_sampled.inc();
        }
    }

    /// Counts a copy that no shadow got.
    pub(crate) fn shadow_dropped(&self) {
        self.shadows_dropped.inc();
    }

    /// Counts a request of a drill.
    pub(crate) fn drilled(&self, deployment: &str, drill: &Drill, outcome: Outcome) {
        let target = match drill.target {
            DrillTarget::Copies => "copies",
            DrillTarget::Answers => "answers",
        };
        let (fault, outcome) = (rehearsed_name(drill), outcome_name(outcome));
        let labels = DrillLabels { deployment: deployment.to_owned(), fault, target, outcome };
        self.drill_requests.get_or_create(&labels).inc();
    }
}

/// What one version of one deployment counts, without looking labels up at each request.
#[derive(Debug)]
pub(crate) struct VersionMeters {
    deployment: String,
    version: String,
    metrics: ServingMetrics,
    /// By variant; made when the first request of it is answered.
    variants: [OnceLock<VariantMeters>; 4],
}

#[derive(Debug)]
struct VariantMeters {
    success: Counter,
    seconds: Histogram,
    queue_seconds: Histogram,
    compute_seconds: Histogram,
    run_rows: Histogram,
    non_finite: Counter,
}

impl VersionMeters {
    /// Meters of a version.
    pub(crate) fn new(deployment: &str, version: &str, metrics: ServingMetrics) -> Self {
        let (deployment, version) = (deployment.to_owned(), version.to_owned());
        Self { deployment, version, metrics, variants: Default::default() }
    }

    /// Counts an answer, and how many of its values are NaN or infinite.
    pub(crate) fn succeeded(&self, variant: Variant, run: &Run, non_finite: u64) {
        let meters = self.variants[variant as usize].get_or_init(|| self.variant(variant));
        meters.success.inc();
        if non_finite > 0 {
            meters.non_finite.inc_by(non_finite);
        }
        meters.seconds.observe(run.total.as_secs_f64());
        meters.queue_seconds.observe(run.queued.as_secs_f64());
        meters.compute_seconds.observe(run.computed.as_secs_f64());
        if let Some(rows) = run.run_rows {
            #[expect(clippy::cast_precision_loss, reason = "buckets are coarser")]
            meters.run_rows.observe(rows as f64);
        }
    }

    /// Counts a request that was not answered.
    pub(crate) fn failed(&self, variant: Variant, outcome: Outcome) {
        self.metrics.requests.get_or_create(&self.requests(variant, outcome)).inc();
    }

    fn requests(&self, variant: Variant, outcome: Outcome) -> RequestLabels {
        let (deployment, version) = (self.deployment.clone(), self.version.clone());
        let (variant, outcome) = (variant_name(variant), outcome_name(outcome));
        RequestLabels { deployment, version, variant, outcome }
    }

    fn variant(&self, variant: Variant) -> VariantMeters {
        let (deployment, version) = (self.deployment.clone(), self.version.clone());
        let labels = VersionLabels { deployment, version, variant: variant_name(variant) };
        let metrics = &self.metrics;
        VariantMeters {
            success: metrics.requests.get_or_create_owned(&self.requests(variant, Outcome::Success)),
            seconds: metrics.seconds.get_or_create_owned(&labels),
            queue_seconds: metrics.queue_seconds.get_or_create_owned(&labels),
            compute_seconds: metrics.compute_seconds.get_or_create_owned(&labels),
            run_rows: metrics.run_rows.get_or_create_owned(&labels),
            non_finite: metrics.non_finite.get_or_create_owned(&labels),
        }
    }
}

fn times() -> Histogram {
    slipway_service_kit::metrics::times(exponential_buckets(SECONDS_FIRST_BUCKET, 2.0, SECONDS_BUCKETS))
}

/// Name of an outcome in labels.
pub(crate) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Rejected => "rejected",
        Outcome::Overloaded => "overloaded",
        Outcome::Expired => "expired",
    }
}

/// Name of what a drill rehearses, in labels.
const fn rehearsed_name(drill: &Drill) -> &'static str {
    match drill.fault {
        Some(Fault::NotLoading) => "not-loading",
        Some(Fault::StorageGone) => "storage-gone",
        Some(Fault::OutOfMemory) => "out-of-memory",
        Some(Fault::Errors) => "errors",
        Some(Fault::Latency { .. }) => "latency",
        None => "records",
    }
}

/// Name of a variant in labels.
pub(crate) const fn variant_name(variant: Variant) -> &'static str {
    match variant {
        Variant::Stable => "stable",
        Variant::Candidate => "candidate",
        Variant::Shadow => "shadow",
        Variant::Pinned => "pinned",
    }
}
