//! The number of pods.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricIdentifier,
    MetricSpec, MetricTarget, PodsMetricSource, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use slipway_domain::Invalid;
use slipway_kubernetes_pods::parsed;
use slipway_kubernetes_resources::model_deployment::{Metric, Placement, Scaling, Spec};

use crate::names::{Part, metadata};
use crate::situation::Situation;

/// Use of what a pod requests, in percent, where a spec says nothing.
const DEFAULT_TARGET_PERCENT: u32 = 80;

/// A metric of pods that the operator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodMetric {
    /// Requests that are being answered.
    InFlight,
    /// Requests per second.
    Requests,
    /// Mean time from a request to its answer, in milliseconds.
    Latency,
    /// Mean time that a request waits for a run, in milliseconds.
    Queue,
    /// Share of the time in which the GPUs compute, in percent.
    Gpu,
}

impl PodMetric {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::InFlight, Self::Requests, Self::Latency, Self::Queue, Self::Gpu];

    /// Its name in the custom metrics API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlight => "slipway_in_flight_requests",
            Self::Requests => "slipway_requests_per_second",
            Self::Latency => "slipway_latency_milliseconds",
            Self::Queue => "slipway_queue_milliseconds",
            Self::Gpu => "slipway_gpu_use_percent",
        }
    }
}

/// The lower bound of pods where a HorizontalPodAutoscaler sets their number. It does nothing at 0 replicas,
/// and looks only every 15 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// No pods: scaled to zero.
    Zero,
    /// At least this number of pods now, without waiting for the autoscaler, which goes on from there.
    AtLeast(i32),
}

/// The number, where it is fixed: otherwise it is the autoscaler's.
pub(crate) fn fixed(spec: &Spec, placement: Placement) -> Option<i32> {
    (!is_scaled(spec)).then(|| if placement.has_pods { number(spec.replicas().min) } else { 0 })
}

/// See [`Scale`].
pub(crate) fn scale(spec: &Spec, situation: &Situation) -> Option<Scale> {
    let has_pods = situation.placement.has_pods;
    let scale = || if has_pods { Scale::AtLeast(number(least(spec, situation))) } else { Scale::Zero };
    is_scaled(spec).then(scale)
}

/// Pods that there are to be at least.
fn least(spec: &Spec, situation: &Situation) -> u32 {
    let replicas = spec.replicas();
    replicas.min.max(situation.least_pods).min(replicas.most())
}

fn is_scaled(spec: &Spec) -> bool {
    spec.replicas().most() > spec.replicas().min
}

fn number(replicas: u32) -> i32 {
    i32::try_from(replicas).unwrap_or(i32::MAX)
}

/// What changes the number between `replicas.min` and `replicas.max`.
///
/// # Errors
/// The behavior is not one; names the field.
pub(crate) fn autoscaler(
    part: &Part,
    spec: &Spec,
    situation: &Situation,
) -> Result<Option<HorizontalPodAutoscaler>, Invalid> {
    if !is_scaled(spec) {
        return Ok(None);
    }
    let (replicas, scaling) = (spec.replicas(), spec.scaling.clone().unwrap_or_default());
    Ok(Some(HorizontalPodAutoscaler {
        metadata: metadata(part),
        spec: Some(HorizontalPodAutoscalerSpec {
            behavior: parsed("spec.scaling.behavior", scaling.behavior.as_ref())?,
            max_replicas: number(replicas.most()),
            metrics: Some(vec![metric(&scaling)]),
            min_replicas: Some(number(least(spec, situation))),
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: part.name.clone(),
            },
        }),
        status: None,
    }))
}

fn metric(scaling: &Scaling) -> MetricSpec {
    match scaling.metric {
        Metric::Cpu => of_resource("cpu", scaling),
        Metric::Memory => of_resource("memory", scaling),
        Metric::Concurrency => of_pods(PodMetric::InFlight, scaling),
        Metric::RequestsPerSecond => of_pods(PodMetric::Requests, scaling),
        Metric::Latency => of_pods(PodMetric::Latency, scaling),
        Metric::Queue => of_pods(PodMetric::Queue, scaling),
        Metric::Gpu => of_pods(PodMetric::Gpu, scaling),
    }
}

fn of_resource(name: &str, scaling: &Scaling) -> MetricSpec {
    let target = MetricTarget {
        average_utilization: Some(number(scaling.target.unwrap_or(DEFAULT_TARGET_PERCENT))),
        type_: "Utilization".to_owned(),
        ..MetricTarget::default()
    };
    MetricSpec {
        resource: Some(ResourceMetricSource { name: name.to_owned(), target }),
        type_: "Resource".to_owned(),
        ..MetricSpec::default()
    }
}

/// The schema asks for a target of all others.
const fn default_target(metric: PodMetric) -> u32 {
    if matches!(metric, PodMetric::Gpu) { DEFAULT_TARGET_PERCENT } else { 1 }
}

fn of_pods(metric: PodMetric, scaling: &Scaling) -> MetricSpec {
    let target = MetricTarget {
        average_value: Some(Quantity(scaling.target.unwrap_or(default_target(metric)).to_string())),
        type_: "AverageValue".to_owned(),
        ..MetricTarget::default()
    };
    let metric = MetricIdentifier { name: metric.name().to_owned(), selector: None };
    MetricSpec {
        pods: Some(PodsMetricSource { metric, target }),
        type_: "Pods".to_owned(),
        ..MetricSpec::default()
    }
}
