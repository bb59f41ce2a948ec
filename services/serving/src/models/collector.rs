//! Counters of versions, collected at each scrape: Triton's counters under Triton's names, queues
//! and what they dropped.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::models::Resident;
use crate::models::routing::{Routes, Routing};
use crate::stats::Snapshot;
use crate::traffic::usage::gpu_percent;

/// Metrics of all versions that have a route.
#[derive(Debug)]
pub(crate) struct Versions(pub(crate) Arc<Routing>);

/// A counter of [`Snapshot`]: its name, what it says, and where it is.
type Count = (&'static str, &'static str, fn(&Snapshot) -> u64);

const COUNTS: [Count; 9] = [
    ("nv_inference_request_success", "Successful requests", |stats| stats.success),
    ("nv_inference_request_failure", "Failed requests", |stats| stats.fail),
    ("nv_inference_count", "Rows inferred", |stats| stats.rows),
    ("nv_inference_exec_count", "Runs of the model", |stats| stats.runs),
    ("nv_inference_request_duration_us", "Time of successful requests", |stats| stats.success_ns / 1000),
    ("nv_inference_queue_duration_us", "Time in queues", |stats| stats.queue_ns / 1000),
    ("nv_inference_compute_input_duration_us", "Time copying inputs", |stats| stats.input_ns / 1000),
    ("nv_inference_compute_infer_duration_us", "Time in models", |stats| stats.compute_ns / 1000),
    ("nv_inference_compute_output_duration_us", "Time copying outputs", |stats| stats.output_ns / 1000),
];

impl Collector for Versions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let routes = self.0.all();
        put_counts(&mut encoder, &routes)?;
        put_dropped(&mut encoder, &routes)?;
        put_joining(&mut encoder, &routes)?;
        put_audits(&mut encoder, &routes)?;
        put_waiting(&mut encoder, &routes, "slipway_serving_requests_waiting", "deployment")?;
        put_waiting(&mut encoder, &routes, "nv_inference_pending_request_count", "model")?;
        put_gpu_use(&mut encoder, gpu_percent(&self.0))
    }
}

fn put_counts(encoder: &mut DescriptorEncoder<'_>, routes: &Routes) -> fmt::Result {
    let versions = routes.iter().flat_map(|(model, route)| {
        route.versions.values().map(move |version| (model, &version.target.version, version.stats.snapshot()))
    });
    let versions: Vec<_> = versions.collect();
    for (name, help, read) in COUNTS {
        // Triton's counters have no `_total`, which OpenMetrics asks of counters; so their type stays open.
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
        for (model, version, stats) in &versions {
            let labels = [("model", model.as_str()), ("version", version.as_str())];
            ConstGauge::new(read(stats)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn put_dropped(encoder: &mut DescriptorEncoder<'_>, routes: &Routes) -> fmt::Result {
    let name = "slipway_serving_requests_dropped";
    let mut family =
        encoder.encode_descriptor(name, "Requests dropped before they ran", None, MetricType::Counter)?;
    for (deployment, version, resident) in known(routes) {
        let dropped = resident.dropped();
        for (reason, count) in
            [("cancelled", dropped.cancelled), ("expired", dropped.expired), ("queue-full", dropped.rejected)]
        {
            let labels = [("deployment", deployment), ("version", version), ("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn put_joining(encoder: &mut DescriptorEncoder<'_>, routes: &Routes) -> fmt::Result {
    let name = "slipway_serving_requests_joined";
    let help = "Whether queued requests share runs: 1, or 0";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (deployment, version, resident) in known(routes) {
        let Some(served) = resident.served() else { continue };
        let labels = [("deployment", deployment), ("version", version)];
        ConstGauge::new(u64::from(served.joining().is_on())).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn put_audits(encoder: &mut DescriptorEncoder<'_>, routes: &Routes) -> fmt::Result {
    let name = "slipway_serving_join_audits";
    let help = "Requests of joined runs that ran again alone, by whether the answers agreed";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (deployment, version, resident) in known(routes) {
        let Some(served) = resident.served() else { continue };
        let audits = served.audits();
        for (outcome, count) in [("agreed", audits.agreed), ("differed", audits.differed)] {
            let labels = [("deployment", deployment), ("version", version), ("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn put_waiting(
    encoder: &mut DescriptorEncoder<'_>,
    routes: &Routes,
    name: &str,
    deployment_label: &str,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, "Queued requests", None, MetricType::Gauge)?;
    for (deployment, version, resident) in known(routes) {
        let waiting = resident.served().map_or(0, |served| served.waiting());
        let labels = [(deployment_label, deployment), ("version", version)];
        ConstGauge::new(u64::try_from(waiting).unwrap_or(u64::MAX)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Left out where no version runs on a GPU.
fn put_gpu_use(encoder: &mut DescriptorEncoder<'_>, percent: Option<u8>) -> fmt::Result {
    let Some(percent) = percent else { return Ok(()) };
    let (name, help) = ("slipway_serving_gpu_use_percent", "Share of the time in which the GPUs compute");
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(u64::from(percent)).encode(encoder)
}

/// Deployment, version and place in memory of those that have been loaded at least once.
fn known(routes: &Routes) -> impl Iterator<Item = (&str, &str, &Resident)> {
    let versions = routes.iter().flat_map(|(deployment, route)| {
        route.versions.values().map(move |version| (deployment.as_str(), version))
    });
    versions
        .filter(|(_, version)| version.described.is_some())
        .map(|(deployment, version)| (deployment, version.target.version.as_str(), &*version.resident))
}

#[cfg(test)]
mod tests {
    use slipway_service_kit::metrics::Metrics;

    use super::*;

    #[derive(Debug)]
    struct Used(Option<u8>);

    impl Collector for Used {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            put_gpu_use(&mut encoder, self.0)
        }
    }

    #[test]
    fn the_use_of_gpus_is_left_out_where_there_are_none() {
        let shown = |percent| {
            let metrics = Metrics::new();
            metrics.collect(Used(percent));
            metrics.render()
        };
        assert!(shown(Some(7)).contains("\nslipway_serving_gpu_use_percent 7\n"));
        assert!(!shown(None).contains("gpu_use"));
    }
}
