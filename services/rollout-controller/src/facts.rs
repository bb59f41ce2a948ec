//! What came of the requests since a step began: read from the records and labels that serving published,
//! from that moment on. Nothing of it is stored, because a restart reads it again.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use slipway_api::predictions::{
    LABELS_STREAM, LABELS_SUBJECT, LabelRecord, PREDICTIONS_STREAM, PredictionBatch, PredictionRecord,
    Sender, Variant, label_matches, prediction_tensor, records_filter,
};
use slipway_api::traffic::TrafficTable;
use slipway_domain::rollout::{Analysis, FactsCollector, Phase, Prediction, Rollout, Side, WindowFacts};
use slipway_event_bus::{EventBus, records};
use slipway_runtime::task;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Requests that wait for their label, and labels that wait for their request; older ones make room.
const MAX_WAITING: usize = 50_000;
/// Runs of serving processes whose dropped records are counted.
const MAX_RUNS: usize = 1_024;
/// Rows of one request that are looked up among the inputs that the other version answered.
const MAX_HASHED_ROWS: usize = 32;
/// Without a message for so long after the start there is nothing old to catch up with.
const CATCH_UP: Duration = Duration::from_millis(1_500);

/// The windows of the rollouts in progress. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    windows: Arc<Mutex<HashMap<Uuid, Window>>>,
}

/// A rollout in progress, and the traffic table of its deployment.
#[derive(Debug)]
pub(crate) struct Judged<'rollout> {
    pub(crate) id: Uuid,
    pub(crate) rollout: &'rollout Rollout,
    pub(crate) table: TrafficTable,
}

#[derive(Debug)]
struct Window {
    since_unix_ms: u64,
    begun: Instant,
    shared: Arc<Mutex<Gathered>>,
    /// Ends the readers.
    _readers: DropGuard,
}

impl Facts {
    /// Keeps a window open for each rollout that is judged by facts now, and closes the others.
    pub(crate) fn keep(&self, bus: &EventBus, rollouts: &[Judged<'_>]) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|id, window| {
            rollouts.iter().any(|Judged { id: other, rollout, .. }| {
                other == id && is_judged(rollout) && rollout.window_since_unix_ms() == window.since_unix_ms
            })
        });
        for Judged { id, rollout, table } in rollouts {
            if is_judged(rollout) && !windows.contains_key(id) {
                windows.insert(*id, open(bus, rollout, table));
            }
        }
    }

    /// Closes all windows; they are opened and read again. Readers that go on behind the last message they
    /// saw would wait indefinitely if the server lost its streams and numbers messages from 1 again.
    pub(crate) fn read_again(&self) {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The facts of a rollout's window; `None` while what happened before a restart is still being read.
    pub(crate) fn of(&self, id: Uuid, rollout: &Rollout) -> Option<WindowFacts> {
        if !is_judged(rollout) {
            return Some(WindowFacts::default());
        }
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window =
            windows.get(&id).filter(|window| window.since_unix_ms == rollout.window_since_unix_ms())?;
        let gathered = window.shared.lock().unwrap_or_else(PoisonError::into_inner);
        (gathered.caught_up || window.begun.elapsed() > CATCH_UP)
            .then(|| gathered.collector.facts(&rollout.strategy().analysis))
    }

    /// What is known so far, for the record.
    pub(crate) fn so_far(&self, id: Uuid, analysis: &Analysis) -> WindowFacts {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.get(&id).map_or_else(WindowFacts::default, |window| {
            window.shared.lock().unwrap_or_else(PoisonError::into_inner).collector.facts(analysis)
        })
    }
}

fn is_judged(rollout: &Rollout) -> bool {
    rollout.unpaused_phase() == Phase::Progressing
}

fn open(bus: &EventBus, rollout: &Rollout, table: &TrafficTable) -> Window {
    let since_unix_ms = rollout.window_since_unix_ms();
    let shared = Arc::new(Mutex::new(Gathered {
        deployment: rollout.deployment().to_owned(),
        deployment_id: table.deployment_id.clone(),
        from: rollout.from().map(|from| from.version.clone()),
        to: rollout.to().version.clone(),
        since_unix_ms,
        output: table.prediction_output.clone(),
        ..Gathered::default()
    }));
    let end = CancellationToken::new();
    let from = SystemTime::UNIX_EPOCH + Duration::from_millis(since_unix_ms);
    let records = records_filter(rollout.deployment()).to_vec();
    for (stream, subjects) in
        [(PREDICTIONS_STREAM, records), (LABELS_STREAM, vec![LABELS_SUBJECT.to_owned()])]
    {
        let (bus, shared, end) = (bus.clone(), Arc::clone(&shared), end.clone());
        task::detached("facts", async move {
            records::read_subjects(&bus, stream, &subjects, from, &end, |message| {
                let mut gathered = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if stream == PREDICTIONS_STREAM {
                    gathered.take_batch(&message.payload);
                    gathered.caught_up |= records::is_last(message);
                } else {
                    gathered.take_label(&message.payload);
                }
            })
            .await;
        });
    }
    Window { since_unix_ms, begun: Instant::now(), shared, _readers: end.drop_guard() }
}

#[derive(Debug, Default)]
struct Gathered {
    deployment: String,
    deployment_id: Option<String>,
    from: Option<String>,
    to: String,
    since_unix_ms: u64,
    output: Option<String>,
    collector: FactsCollector,
    /// By run of a serving process: rows it had dropped when the window began, and by now.
    dropped: HashMap<String, (u64, u64)>,
    caught_up: bool,
    predictions: Waiting<Vec<(Side, Predicted)>>,
    labels: Waiting<Vec<Value>>,
}

impl Gathered {
    fn take_batch(&mut self, payload: &[u8]) {
        let Ok(batch) = serde_json::from_slice::<PredictionBatch>(payload) else {
            tracing::warn!("batch of prediction records does not parse; skipped");
            return;
        };
        if !batch.is_of(self.deployment_id.as_deref()) {
            return;
        }
        self.take_dropped(&batch.sender);
        for record in &batch.records {
            if record.deployment == self.deployment && record.at_unix_ms >= self.since_unix_ms {
                self.take_record(record);
            }
        }
    }

    /// Senders count what they dropped since they began; the window's part is the difference.
    fn take_dropped(&mut self, sender: &Sender) {
        if sender.run.is_empty()
            || (self.dropped.len() >= MAX_RUNS && !self.dropped.contains_key(&sender.run))
        {
            return;
        }
        let began_before = sender.run_started_at_unix_ms < self.since_unix_ms;
        let first = if began_before { sender.dropped_rows } else { 0 };
        let (_, now) = self.dropped.entry(sender.run.clone()).or_insert((first, first));
        *now = sender.dropped_rows.max(*now);
        let dropped = self.dropped.values().map(|(before, now)| now - before);
        self.collector.records().dropped_rows = dropped.sum();
    }

    fn take_record(&mut self, record: &PredictionRecord) {
        let side = match record.variant {
            Variant::Candidate | Variant::Shadow if record.version == self.to => Side::Candidate,
            Variant::Stable if Some(&record.version) == self.from.as_ref() => Side::Stable,
            _ => return,
        };
        self.collector.request(side, record.latency_us, record.error.is_some());
        if let Some(divergence) = &record.divergence
            && record.shadow_of == self.from
        {
            self.collector.compared(divergence.compared_rows, divergence.differing_rows);
        }
        self.note_what_is_left_out(record);
        let values = record.predictions(self.output.as_deref());
        if record.error.is_some() {
            return;
        }
        if record.non_finite_outputs > 0 {
            self.collector.non_finite(side);
        }
        self.take_predictions(side, record, &values);
        if values.is_empty() {
            return;
        }
        let predictions = Predicted { row_indices: record.row_indices.clone(), values };
        if let Some(labels) = self.labels.get(&record.request_id) {
            let (rows, correct) = compare(&predictions, labels);
            self.collector.labelled(side, rows, correct);
        }
        self.predictions.entry(&record.request_id).push((side, predictions));
    }

    fn note_what_is_left_out(&mut self, record: &PredictionRecord) {
        if let Some(percent) = record.sample_percent {
            let least = &mut self.collector.records().sample_percent;
            *least = Some(least.map_or(percent, |least| least.min(percent)));
        }
    }

    /// Hands predictions on for the comparison of the two versions. `null` is NaN, or redacted.
    fn take_predictions(&mut self, side: Side, record: &PredictionRecord, predictions: &[Value]) {
        let tensor = prediction_tensor(&record.outputs, self.output.as_deref());
        let is_real =
            tensor.is_some_and(|tensor| tensor.datatype.contains("FP") || tensor.datatype == "BF16");
        let known: Vec<(usize, Prediction)> = predictions
            .iter()
            .enumerate()
            .filter_map(|(row, value)| Some((row, prediction(value, is_real)?)))
            .collect();
        if known.is_empty() {
            if record.non_finite_outputs == 0 && record.rows > 0 {
                self.collector.records().without_predictions += 1;
            }
            return;
        }
        for (row, prediction) in known.iter().take(MAX_HASHED_ROWS) {
            if let Some(hash) = input_hash(record, *row) {
                self.collector.predicted_for(side, hash, prediction);
            }
        }
        let known: Vec<Prediction> = known.into_iter().map(|(_, prediction)| prediction).collect();
        self.collector.predicted(side, &known);
    }

    fn take_label(&mut self, payload: &[u8]) {
        let Ok(label) = serde_json::from_slice::<LabelRecord>(payload) else {
            tracing::warn!("label does not parse; skipped");
            return;
        };
        // The first label of a request counts, as one vote.
        if label.deployment != self.deployment || self.labels.get(&label.request_id).is_some() {
            return;
        }
        if let Some(predicted) = self.predictions.get(&label.request_id) {
            for (side, predictions) in predicted {
                let (rows, correct) = compare(predictions, &label.labels);
                self.collector.labelled(*side, rows, correct);
            }
        }
        *self.labels.entry(&label.request_id) = label.labels;
    }
}

/// A recorded prediction; `None` where it is not recorded.
fn prediction(value: &Value, is_real: bool) -> Option<Prediction> {
    match value {
        Value::Null => None,
        Value::Number(number) if is_real => number.as_f64().map(Prediction::Real),
        Value::Number(number) => number.as_f64().map(Prediction::Whole),
        Value::String(text) => Some(Prediction::Class(text.clone())),
        other => Some(Prediction::Class(other.to_string())),
    }
}

/// Hash of a row of the inputs; `None` where they are not recorded in full.
fn input_hash(record: &PredictionRecord, row: usize) -> Option<u64> {
    let rows = usize::try_from(record.recorded_rows()).ok().filter(|rows| *rows > 0)?;
    let mut hasher = DefaultHasher::new();
    let mut any = false;
    for tensor in &record.inputs {
        let width = tensor.data.len() / rows;
        for value in tensor.data.get(row * width..(row + 1) * width)? {
            any = true;
            match value {
                // NaN, or redacted: other rows may look the same.
                Value::Null => return None,
                Value::Number(number) => number.as_f64()?.to_bits().hash(&mut hasher),
                other => other.to_string().hash(&mut hasher),
            }
        }
    }
    any.then(|| hasher.finish())
}

/// Predictions of one request, or of a sample of its rows.
#[derive(Debug, Clone)]
struct Predicted {
    /// See [`PredictionRecord::row_indices`].
    row_indices: Option<Vec<u64>>,
    values: Vec<Value>,
}

impl Predicted {
    fn row(&self, at: usize) -> Option<usize> {
        match &self.row_indices {
            Some(indices) => indices.get(at).and_then(|row| usize::try_from(*row).ok()),
            None => Some(at),
        }
    }
}

/// Rows with a label, and how many of them were predicted right.
fn compare(predicted: &Predicted, labels: &[Value]) -> (u64, u64) {
    let label = |at| predicted.row(at).and_then(|row| labels.get(row)).filter(|label| !label.is_null());
    let values = predicted.values.iter().enumerate();
    values
        .filter_map(|(at, value)| Some((value, label(at)?)))
        .fold((0, 0), |(rows, correct), (value, label)| {
            (rows + 1, correct + u64::from(label_matches(value, label)))
        })
}

/// A map by request id that forgets the oldest.
#[derive(Debug)]
struct Waiting<T> {
    entries: HashMap<String, T>,
    order: VecDeque<String>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T: Default> Waiting<T> {
    fn get(&self, id: &str) -> Option<&T> {
        self.entries.get(id)
    }

    fn entry(&mut self, id: &str) -> &mut T {
        if !self.entries.contains_key(id) {
            if self.order.len() == MAX_WAITING
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(id.to_owned());
        }
        self.entries.entry(id.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gathered() -> Gathered {
        Gathered {
            deployment: "d".into(),
            from: Some("1".into()),
            to: "2".into(),
            since_unix_ms: 10,
            ..Gathered::default()
        }
    }

    fn batch(id: &str, version: &str, variant: &str, at: u64, answer: i64) -> Vec<u8> {
        json!({"replica_id": "r", "records": [{
            "request_id": id, "deployment": "d", "model": "m", "version": version, "variant": variant,
                "at_unix_ms": at,
            "latency_us": 100, "rows": 1, "inputs": [], "shadow_of": (variant == "shadow").then_some("1"),
            "divergence": (variant == "shadow")
                .then(|| json!({"compared_rows": 1, "differing_rows": 1, "max_abs_difference": 1.0})),
            "outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [answer]}]}]})
        .to_string()
        .into_bytes()
    }

    fn label(id: &str, label: i64) -> Vec<u8> {
        json!({"request_id": id, "deployment": "d", "labels": [label], "at_unix_ms": 20})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn labels_meet_their_predictions_in_either_order() {
        let mut gathered = gathered();
        gathered.take_batch(&batch("a", "1", "stable", 11, 1));
        gathered.take_batch(&batch("a", "2", "shadow", 11, 0));
        gathered.take_label(&label("a", 1));
        gathered.take_label(&label("a", 1));
        gathered.take_label(&label("b", 1));
        gathered.take_batch(&batch("b", "2", "candidate", 12, 1));
        let facts = gathered.collector.facts(&Analysis::default());
        assert_eq!((facts.stable.labelled, facts.stable.correct), (1, 1));
        assert_eq!((facts.candidate.labelled, facts.candidate.correct), (2, 1));
        assert_eq!((facts.compared_rows, facts.differing_rows), (1, 1));
    }

    #[test]
    fn rows_that_serving_dropped_are_counted_from_the_begin_of_the_window() {
        let mut gathered = gathered();
        let mut take = |run: &str, started: u64, dropped: u64| {
            let sender = json!({"run": run, "run_started_at_unix_ms": started, "dropped_rows": dropped});
            let batch = json!({"replica_id": "r", "sender": sender, "records": []});
            gathered.take_batch(batch.to_string().as_bytes());
            gathered.collector.facts(&Analysis::default()).records.dropped_rows
        };
        assert_eq!(take("old", 5, 40), 0, "before the window");
        assert_eq!(take("old", 5, 47), 7);
        assert_eq!(take("new", 12, 3), 10, "a run of the window");
        assert_eq!(take("old", 5, 46), 10, "an earlier message that comes late");
    }

    #[test]
    fn predictions_are_compared_by_distribution_and_by_repeated_inputs() {
        let answer = |id: &str, version: &str, variant: &str, input: f64, outputs: Value| {
            let outputs = json!([{"name": "label", "datatype": "INT64", "shape": [1], "data": [outputs]}]);
            json!({"request_id": id, "deployment": "d", "model": "m", "version": version, "variant": variant,
                "at_unix_ms": 11, "latency_us": 100, "rows": 1, "outputs": outputs, "sample_percent": 25.0,
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [input, 1]}]})
        };
        let mut gathered = gathered();
        for request in 0..30 {
            let (id, input) = (format!("r-{request}"), f64::from(request % 10));
            let records = [
                answer(&id, "1", "stable", input, json!(request % 2)),
                answer(&id, "2", "candidate", input, json!(1 - request % 2)),
                answer(&id, "2", "candidate", input, Value::Null),
            ];
            gathered.take_batch(json!({"replica_id": "r", "records": records}).to_string().as_bytes());
        }
        let facts = gathered.collector.facts(&Analysis::default());
        assert_eq!((facts.same_inputs, facts.same_inputs_differing), (10, 10));
        assert_eq!((facts.shift.stable_requests, facts.shift.candidate_requests), (30, 30));
        assert_eq!((facts.records.sample_percent, facts.records.without_predictions), (Some(25.0), 30));
    }

    #[test]
    fn what_is_not_of_this_window_does_not_count() {
        let mut gathered = gathered();
        gathered.take_batch(&batch("old", "2", "candidate", 9, 1));
        gathered.take_batch(&batch("pinned", "2", "pinned", 11, 1));
        gathered.take_batch(&batch("other", "3", "candidate", 11, 1));
        gathered.take_batch(b"rubbish");
        assert_eq!(gathered.collector.facts(&Analysis::default()).candidate.requests, 0);
    }

    #[test]
    fn labels_of_a_sampled_request_meet_the_rows_that_were_kept() {
        let mut gathered = gathered();
        let record = json!({"request_id": "a", "deployment": "d", "model": "m", "version": "2",
            "variant": "candidate",
            "at_unix_ms": 11, "latency_us": 1, "rows": 4, "row_indices": [1, 3], "inputs": [],
            "outputs": [{"name": "label", "datatype": "INT64", "shape": [2], "data": [7, 8]}]});
        gathered.take_batch(json!({"replica_id": "r", "records": [record]}).to_string().as_bytes());
        let label = json!({"request_id": "a", "deployment": "d", "labels": [0, 7, 8, 9], "at_unix_ms": 20});
        gathered.take_label(label.to_string().as_bytes());
        let facts = gathered.collector.facts(&Analysis::default());
        assert_eq!((facts.candidate.labelled, facts.candidate.correct), (2, 1));
    }

    #[test]
    fn records_of_another_deployment_of_the_name_do_not_count() {
        let mut gathered = Gathered { deployment_id: Some("mine".into()), ..gathered() };
        let mut batch: Value = serde_json::from_slice(&batch("a", "2", "candidate", 11, 1)).unwrap();
        for (sender, requests) in [
            (json!({"origin": "controller", "deployment_id": "other"}), 0),
            (json!({"origin": "folder"}), 0),
            (json!({"origin": "controller", "deployment_id": "mine"}), 1),
        ] {
            batch["sender"] = sender;
            gathered.take_batch(batch.to_string().as_bytes());
            assert_eq!(gathered.collector.facts(&Analysis::default()).candidate.requests, requests);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut waiting = Waiting::<Vec<Value>>::default();
        for number in 0..=MAX_WAITING {
            waiting.entry(&number.to_string());
        }
        assert_eq!((waiting.entries.len(), waiting.get("0")), (MAX_WAITING, None));
    }
}
