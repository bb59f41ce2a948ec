//! Where the time of a prediction went, as spans under the request's: queue, batch and run.
//!
//! They are made from the measured times once the answer is there, for requests whose trace is collected; all
//! others cost a load of a flag.

use std::time::{Duration, SystemTime};

use slipway_inference::Origin;
use slipway_runtime::clock;
use slipway_telemetry::spans::{Collected, KeyValue, Past, SpanName};

use crate::metrics::variant_name;
use crate::models::routing::Pick;
use crate::stats::Run;

/// How a batch finds its requests.
pub(super) fn origin(request: &Collected) -> Origin {
    let SpanName { trace_id, span_id } = request.name();
    Origin { trace_id, span_id }
}

/// What a request ran together with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'run> {
    /// Rows of all its requests.
    pub rows: u64,
    /// Those of its requests whose traces are collected.
    pub members: &'run [Origin],
}

/// Collects the spans of a run that has just been answered. A batch is linked to all requests in it that are
/// collected.
pub(super) fn record(request: &Collected, pick: &Pick, run: &Run, batch: Batch<'_>) {
    let ended = clock::now();
    let began = before(ended, run.total);
    let taken = began + run.queued;
    let about = |mut more: Vec<KeyValue>| {
        more.push(KeyValue::new("slipway.deployment", pick.source.deployment.clone()));
        more.push(KeyValue::new("slipway.version", pick.source.version.clone()));
        more.push(KeyValue::new("slipway.variant", variant_name(pick.variant)));
        more
    };
    // A request that ran at once has not waited.
    if !run.queued.is_zero() {
        let waited = whole(run.queued.as_micros());
        let attributes = about(vec![KeyValue::new("slipway.wait_us", waited)]);
        request.record(Past { name: "serving.queue", from: began, to: taken, attributes, links: &[] });
    }
    let copied = taken + run.prepared;
    let computed = copied + run.computed;
    let links: Vec<SpanName> = batch
        .members
        .iter()
        .map(|member| SpanName { trace_id: member.trace_id, span_id: member.span_id })
        .filter(|member| *member != request.name())
        .collect();
    let rows = vec![
        KeyValue::new("slipway.rows", whole(run.rows)),
        KeyValue::new("slipway.batch_rows", whole(batch.rows)),
    ];
    let to = computed + run.collected;
    let whole_batch = Past { name: "serving.batch", from: taken, to, attributes: about(rows), links: &links };
    let in_model =
        Past { name: "serving.run", from: copied, to: computed, attributes: about(Vec::new()), links: &[] };
    request.record(whole_batch).record(in_model);
}

fn before(moment: SystemTime, duration: Duration) -> SystemTime {
    moment.checked_sub(duration).unwrap_or(moment)
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
