//! Recorded requests for drills: read from the stream of prediction records, and sent to the serving replica
//! that replays them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use slipway_api::predictions::{
    PREDICTIONS_STREAM, PredictionBatch, PredictionRecord, RecordedTensor, Variant, records_filter,
};
use slipway_api::replay::ReplayMessage;
use slipway_domain::rollout::drill::{Drill, RecordedRequests};
use slipway_event_bus::{EventBus, records};
use slipway_runtime::clock::now_unix_ms;
use slipway_runtime::task;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::store::deployments::Deployment;

/// Without a message for so long there are no records.
const SILENCE: Duration = Duration::from_secs(3);
/// Records that are read later do not count.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Size of the records that are kept, as they are published. Older ones make room.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The replays that this process sends, by drill. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replays(Arc<Mutex<BTreeSet<String>>>);

impl Replays {
    /// Sends the recorded requests of a drill, once.
    pub(crate) fn begin(&self, bus: &EventBus, drill: &Drill, deployment: &Deployment) {
        let Some(wanted) = drill.request.records else { return };
        if !self.lock().insert(drill.id.clone()) {
            return;
        }
        let replay = Replay {
            bus: bus.clone(),
            replays: self.clone(),
            drill_id: drill.id.clone(),
            ends_at_unix_ms: drill.ends_at_unix_ms,
            deployment: deployment.name.clone(),
            deployment_id: deployment.traffic.deployment_id.clone(),
            wanted,
        };
        task::detached("replay", async move {
            if let Err(error) = replay.run().await {
                tracing::warn!(%error, drill_id = replay.drill_id, "recorded requests not sent");
            }
        });
    }

    /// Ends the replay of a drill, if there is one.
    pub(crate) fn end(&self, drill_id: &str) {
        self.lock().remove(drill_id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Replay {
    bus: EventBus,
    replays: Replays,
    drill_id: String,
    ends_at_unix_ms: u64,
    deployment: String,
    deployment_id: Option<String>,
    wanted: RecordedRequests,
}

/// The newest records of a deployment, oldest first.
#[derive(Debug, Default)]
struct Gathered {
    records: VecDeque<(usize, PredictionRecord)>,
    bytes: usize,
    incomplete: u64,
    messages: u64,
    is_complete: bool,
}

impl Replay {
    async fn run(&self) -> anyhow::Result<()> {
        let Gathered { records, incomplete, .. } = self.gather().await;
        let head = ReplayMessage { found: records.len() as u64, incomplete, ..ReplayMessage::default() };
        self.send(&head).await?;
        let mut pace = tokio::time::interval(Duration::from_secs(1) / self.wanted.requests_per_second.max(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for (_, record) in records {
            pace.tick().await;
            let is_over = now_unix_ms() >= self.ends_at_unix_ms;
            if is_over || !self.replays.lock().contains(&self.drill_id) {
                return Ok(());
            }
            self.send(&ReplayMessage { record: Some(record), ..head.clone() }).await?;
        }
        self.send(&ReplayMessage { done: true, ..head }).await
    }

    async fn send(&self, message: &ReplayMessage) -> anyhow::Result<()> {
        Ok(self.bus.replay(&self.drill_id, serde_json::to_vec(message)?.into()).await?)
    }

    /// Reads the records of the deployment from the first one that the stream has.
    async fn gather(&self) -> Gathered {
        let shared = Arc::new(Mutex::new(Gathered::default()));
        let (end, subjects) = (CancellationToken::new(), records_filter(&self.deployment));
        let handler = |message: &async_nats::Message| {
            let mut gathered = shared.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.messages += 1;
            self.take(&mut gathered, &message.payload);
            if records::is_last(message) {
                gathered.is_complete = true;
                end.cancel();
            }
        };
        let reading = records::read_subjects(
            &self.bus,
            PREDICTIONS_STREAM,
            &subjects,
            SystemTime::UNIX_EPOCH,
            &end,
            handler,
        );
        let silence = async {
            tokio::time::sleep(SILENCE).await;
            let is_silent = shared.lock().unwrap_or_else(PoisonError::into_inner).messages == 0;
            if !is_silent {
                tokio::time::sleep(READ_LIMIT).await;
            }
        };
        tokio::select! {
            () = reading => {}
            () = silence => {}
        }
        std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, gathered: &mut Gathered, payload: &[u8]) {
        let Ok(batch) = serde_json::from_slice::<PredictionBatch>(payload) else { return };
        if !batch.is_of(self.deployment_id.as_deref()) {
            return;
        }
        let size_bytes = payload.len() / batch.records.len().max(1);
        for record in batch.records.into_iter().filter(|record| record.deployment == self.deployment) {
            if !matches!(record.variant, Variant::Stable | Variant::Candidate) || record.error.is_some() {
                continue;
            }
            if !is_whole(&record) {
                gathered.incomplete += 1;
                continue;
            }
            gathered.bytes += size_bytes;
            gathered.records.push_back((size_bytes, record));
            while gathered.records.len() > self.wanted.last as usize || gathered.bytes > MAX_BYTES {
                let Some((size_bytes, _)) = gathered.records.pop_front() else { break };
                gathered.bytes -= size_bytes;
            }
        }
    }
}

/// Whether the record has every value of the request.
fn is_whole(record: &PredictionRecord) -> bool {
    let has_all = |tensor: &RecordedTensor| {
        let elements: Option<i64> =
            tensor.shape.iter().try_fold(1, |all: i64, dimension| all.checked_mul(*dimension));
        elements.and_then(|elements| usize::try_from(elements).ok()) == Some(tensor.data.len())
            && !tensor.data.iter().any(serde_json::Value::is_null)
    };
    record.row_indices.is_none() && !record.inputs.is_empty() && record.inputs.iter().all(has_all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(inputs: &serde_json::Value) -> PredictionRecord {
        let body = json!({"request_id": "r", "deployment": "d", "model": "m", "version": "1",
            "variant": "stable", "at_unix_ms": 0, "latency_us": 0, "rows": 1, "inputs": inputs,
            "outputs": []});
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_record_without_some_of_its_values_is_not_sent() {
        let input = |data: serde_json::Value| {
            let shape = [1, 2];
            json!([{"name": "x", "datatype": "FP32", "shape": shape, "data": data}])
        };
        assert!(is_whole(&record(&input(json!([1.5, 2.5])))));
        assert!(!is_whole(&record(&input(json!([1.5, null])))), "redacted, or NaN");
        assert!(!is_whole(&record(&input(json!([1.5])))));
        assert!(!is_whole(&record(&json!([]))));
        let sampled = PredictionRecord { row_indices: Some(vec![3]), ..record(&input(json!([1.5, 2.5]))) };
        assert!(!is_whole(&sampled));
    }
}
