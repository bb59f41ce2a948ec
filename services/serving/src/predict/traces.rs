//! Where the time of a prediction went, as spans under the request's: queue, batch and run.
//!
//! They are made from the measured times once the answer is there, for requests whose trace is collected; all others cost a load
//! of a flag.

use std::time::{Duration, SystemTime};

use slipway_inference::Origin;
use slipway_telemetry::spans::{self, Collected, KeyValue, Past, SpanName};
use tracing::Span;

use crate::api::trace_settings::path_of;
use crate::metrics::variant_name;
use crate::models::routing::Pick;
use crate::stats::Run;

/// The span of a request over gRPC whose model is known now; `None` where it begins no trace, or is part of one.
pub(crate) fn late(model: &str) -> Option<Span> {
    let begins = slipway_telemetry::is_exporting()
        && Collected::current().is_none()
        && spans::begins_at(&path_of(model));
    begins.then(|| {
        tracing::info_span!(
            parent: None,
            "request",
            otel.name = "POST /inference.GRPCInferenceService/{*method}",
            otel.kind = "server",
            http.request.method = "POST",
            url.path = "/inference.GRPCInferenceService/ModelInfer",
        )
    })
}

/// How a batch finds its requests.
pub(crate) fn origin(request: &Collected) -> Origin {
    let SpanName { trace_id, span_id } = request.name();
    Origin { trace_id, span_id }
}

/// Collects the spans of a run that has just been answered. A batch is linked to all requests in it that are collected.
pub(crate) fn record(request: &Collected, pick: &Pick, run: &Run, batch_rows: u64, members: &[Origin]) {
    let ended = SystemTime::now();
    let began = before(ended, run.total);
    let taken = began + run.queued;
    let about = |mut more: Vec<KeyValue>| {
        more.push(KeyValue::new("slipway.deployment", pick.source.deployment.clone()));
        more.push(KeyValue::new("slipway.version", pick.source.version.clone()));
        more.push(KeyValue::new("slipway.variant", variant_name(pick.variant)));
        more
    };
    // A request that ran at once has waited for nobody.
    if !run.queued.is_zero() {
        let waited = whole(run.queued.as_micros());
        let attributes = about(vec![KeyValue::new("slipway.wait_us", waited)]);
        request.record(Past { name: "serving.queue", from: began, to: taken, attributes, links: &[] });
    }
    let copied = taken + run.prepared;
    let computed = copied + run.computed;
    let links: Vec<SpanName> = members
        .iter()
        .map(|member| SpanName { trace_id: member.trace_id, span_id: member.span_id })
        .filter(|member| *member != request.name())
        .collect();
    let rows = vec![
        KeyValue::new("slipway.rows", whole(run.rows)),
        KeyValue::new("slipway.batch_rows", whole(batch_rows)),
    ];
    let to = computed + run.collected;
    let batch = Past { name: "serving.batch", from: taken, to, attributes: about(rows), links: &links };
    let in_model =
        Past { name: "serving.run", from: copied, to: computed, attributes: about(Vec::new()), links: &[] };
    request.record(batch).record(in_model);
}

fn before(moment: SystemTime, duration: Duration) -> SystemTime {
    moment.checked_sub(duration).unwrap_or(moment)
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
