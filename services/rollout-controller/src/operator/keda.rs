//! KEDA's external scaler, from what serving replicas report: for clusters whose HorizontalPodAutoscalers are
//! KEDA's.
//!
//! A trigger names a ModelDeployment of its own namespace, a metric and a target for each pod:
//!
//! ```yaml
//! - type: external
//!   metadata:
//!     scalerAddress: slipway-custom-metrics.slipway.svc:443
//!     modelDeployment: fraud
//!     metric: concurrency
//!     target: "8"
//! ```

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, stream};
use slipway_api::proto::keda::external_scaler_server::ExternalScaler;
use slipway_api::proto::keda::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use tonic::{Request, Response, Status};

use crate::replicas::load::{Load, Loads};

/// How often it is looked whether there is anything to do.
const STREAM_INTERVAL: Duration = Duration::from_secs(1);
/// Percent, for the metric without a target of its own.
const DEFAULT_GPU_TARGET: f64 = 80.0;
/// Name of a metric, and its value of a replica.
type Metric = (&'static str, fn(&Load) -> f64);
/// Names of the metrics, and how each is taken from a replica. KEDA divides a sum by the target, so means are
/// added up as well: as many replicas as there are reports are seen.
const METRICS: [Metric; 5] = [
    ("concurrency", |load| load.in_flight),
    ("requestsPerSecond", |load| load.requests),
    ("latency", |load| load.latency_ms),
    ("queue", |load| load.queue_ms),
    ("gpu", |load| load.gpu_percent),
];

/// The scaler.
#[derive(Debug, Clone)]
pub(super) struct Scaler(pub(super) Loads);

/// What a trigger asks for.
#[derive(Debug, Clone, PartialEq)]
struct Trigger {
    deployment: String,
    metric: &'static str,
    target: f64,
}

impl Trigger {
    /// Reads a trigger. It can only ask for a ModelDeployment of its own namespace.
    fn parse(asked: &ScaledObjectRef) -> Result<Self, Status> {
        let ScaledObjectRef { namespace, scaler_metadata: metadata, .. } = asked;
        let invalid = |message: String| Status::invalid_argument(message);
        let name = text(metadata, "modelDeployment")
            .ok_or_else(|| invalid("modelDeployment: expected the name of a ModelDeployment".to_owned()))?;
        if name.contains('_') {
            return Err(invalid(format!("modelDeployment: `{name}` is no name of a ModelDeployment")));
        }
        let metric = text(metadata, "metric").unwrap_or("concurrency");
        let names = METRICS.map(|(name, _)| name);
        let known = names.iter().find(|name| **name == metric);
        let metric = known.ok_or_else(|| {
            invalid(format!("metric: expected one of {}, got `{metric}`", names.join(", ")))
        })?;
        let target = match text(metadata, "target") {
            None if *metric == "gpu" => DEFAULT_GPU_TARGET,
            None => return Err(invalid(format!("target: required for the metric {metric}"))),
            Some(target) => target
                .parse()
                .ok()
                .filter(|target: &f64| target.is_finite() && *target > 0.0)
                .ok_or_else(|| invalid(format!("target: expected a positive number, got `{target}`")))?,
        };
        Ok(Self { deployment: format!("{namespace}_{name}"), metric, target })
    }

    /// The sum of what the replicas report.
    fn value(&self, loads: &Loads) -> f64 {
        let of = METRICS.iter().find(|(name, _)| *name == self.metric).map(|(_, of)| of);
        let loads = loads.all().remove(&self.deployment).unwrap_or_default();
        of.map_or(0.0, |of| loads.iter().map(of).sum())
    }

    /// Whether requests are answered, whatever is measured.
    fn is_active(&self, loads: &Loads) -> bool {
        let loads = loads.all().remove(&self.deployment).unwrap_or_default();
        loads.iter().any(|load| load.in_flight > 0.0 || load.requests > 0.0)
    }
}

fn text<'map>(metadata: &'map HashMap<String, String>, name: &str) -> Option<&'map str> {
    metadata.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let result = Trigger::parse(&request.into_inner())?.is_active(&self.0);
        Ok(Response::new(IsActiveResponse { result }))
    }

    type StreamIsActiveStream = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let trigger = Trigger::parse(&request.into_inner())?;
        let seen = (trigger, self.0.clone(), None);
        let changes = stream::unfold(seen, |(trigger, loads, before)| async move {
            loop {
                let result = trigger.is_active(&loads);
                if before != Some(result) {
                    return Some((Ok(IsActiveResponse { result }), (trigger, loads, Some(result))));
                }
                tokio::time::sleep(STREAM_INTERVAL).await;
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let Trigger { metric, target, .. } = Trigger::parse(&request.into_inner())?;
        let spec = MetricSpec {
            metric_name: metric.to_owned(),
            target_size: whole(target.max(1.0)),
            target_size_float: target,
        };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let trigger = Trigger::parse(&scaled_object_ref.unwrap_or_default())?;
        let value = trigger.value(&self.0);
        let value = MetricValue { metric_name, metric_value: whole(value.ceil()), metric_value_float: value };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a rate or a time, which is far smaller")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::StreamExt as _;
    use slipway_api::traffic::{DeploymentLoad, ReplicaStatus};
    use tonic::Code;

    use super::*;

    fn asked(metadata: &[(&str, &str)]) -> ScaledObjectRef {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ScaledObjectRef {
            name: "scaled".to_owned(),
            namespace: "ml".to_owned(),
            scaler_metadata: metadata.iter().map(pair).collect(),
        }
    }

    fn scaler(in_flight: &[u64]) -> Scaler {
        let loads = Loads::default();
        for (number, in_flight) in in_flight.iter().enumerate() {
            let deployment = "ml_fraud".to_owned();
            let load = DeploymentLoad { deployment, in_flight: *in_flight, ..DeploymentLoad::default() };
            let status = ReplicaStatus {
                replica_id: format!("fraud-{number}"),
                load: vec![load],
                ..ReplicaStatus::default()
            };
            loads.hear(&status, Instant::now());
        }
        Scaler(loads)
    }

    #[tokio::test]
    async fn keda_gets_the_sum_of_the_replicas_and_the_target_of_the_trigger() {
        let scaler = scaler(&[3, 4]);
        let asked = asked(&[("modelDeployment", "fraud"), ("metric", "concurrency"), ("target", "2.5")]);
        let specs = scaler.get_metric_spec(Request::new(asked.clone())).await.unwrap().into_inner();
        let spec = &specs.metric_specs[0];
        assert_eq!((&*spec.metric_name, spec.target_size_float), ("concurrency", 2.5));
        let request = GetMetricsRequest {
            scaled_object_ref: Some(asked.clone()),
            metric_name: "concurrency".to_owned(),
        };
        let values = scaler.get_metrics(Request::new(request)).await.unwrap().into_inner().metric_values;
        assert_eq!((&*values[0].metric_name, values[0].metric_value), ("concurrency", 7));
        assert!(scaler.is_active(Request::new(asked.clone())).await.unwrap().into_inner().result);
        let mut stream = scaler.stream_is_active(Request::new(asked)).await.unwrap().into_inner();
        assert!(stream.next().await.unwrap().unwrap().result);
    }

    #[tokio::test]
    async fn a_trigger_that_asks_for_nothing_or_for_another_namespace_is_refused() {
        let scaler = scaler(&[1]);
        for metadata in [
            &[][..],
            &[("modelDeployment", "other_fraud"), ("target", "1")],
            &[("modelDeployment", "fraud"), ("metric", "cpu"), ("target", "1")],
            &[("modelDeployment", "fraud"), ("target", "0")],
            &[("modelDeployment", "fraud")],
        ] {
            let refused = scaler.is_active(Request::new(asked(metadata))).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{metadata:?}");
        }
        let idle = asked(&[("modelDeployment", "nothing"), ("target", "1")]);
        assert!(!scaler.is_active(Request::new(idle)).await.unwrap().into_inner().result);
    }
}
