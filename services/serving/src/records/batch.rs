//! From records that wait to the messages of the stream: columns of what is alike, rows of the rest.

use std::collections::HashMap;

use bytes::Bytes;
use slipway_api::predictions::{PredictionRecord, RecordedTensor, Sender, records_subject};
use slipway_inference::Tensor;

use super::bounds::{GROUP_BYTES, longest};
use super::divergence;
use super::json::{put, redacted, separate};
use super::observation::Observation;
use super::pending::Pending;
use crate::source::{Feed, Redaction};

/// Messages of different deployments that are on their way at the same time.
const MAX_MESSAGES_IN_FLIGHT: usize = 16;
/// A message is no longer than this; NATS takes a MiB at most.
const BATCH_BYTES: usize = 768 * 1024;
/// Tensors of less surely fit.
const SURE_BYTES: usize = 16 * 1024;
/// What the sender takes, its identity and run included.
const SENDER_BYTES: usize = 1024;
/// A message for the stream.
pub(super) struct Batch {
    pub(super) subject: String,
    pub(super) body: Bytes,
    pub(super) records: usize,
    /// Memory that its tensors took in the queue.
    pub(super) queued_bytes: usize,
    /// Rows that clients were answered.
    pub(super) counted_rows: u64,
}

/// What the messages of a run have in common, and how many rows went before.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) sender: Sender,
    pub(super) published_rows: HashMap<String, u64>,
}

impl Head {
    /// The sender of the next message of a feed, and its subject.
    pub(super) fn sender(&self, feed: &Feed) -> (String, Sender) {
        let sender = Sender { deployment_id: feed.deployment_id.clone(), ..self.sender.clone() };
        let subject = records_subject(&feed.deployment, &sender);
        let rows_before = self.published_rows.get(&subject).copied().unwrap_or(0);
        (subject, Sender { rows_before, dropped_rows: feed.dropped_rows(), ..sender })
    }
}

/// The next messages, no two of one deployment: those have to arrive in their order.
pub(super) fn next_messages(replica_id: &str, head: &Head, pending: &mut Pending) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    while batches.len() < MAX_MESSAGES_IN_FLIGHT
        && let Some(feed) = pending.next_feed()
    {
        let (subject, sender) = head.sender(&feed);
        if batches.iter().any(|batch| batch.subject == subject) {
            break;
        }
        batches.push(next_batch(replica_id, subject, &sender, &feed, pending));
    }
    batches
}

/// Takes as many records of a feed as surely fit a message.
fn next_batch(
    replica_id: &str,
    subject: String,
    sender: &Sender,
    feed: &Feed,
    pending: &mut Pending,
) -> Batch {
    let mut redacted = Vec::new();
    put(&mut redacted, &pending.redacted(feed));
    let opening = replica_id.len() * 6 + SENDER_BYTES + redacted.len() + GROUP_BYTES;
    let mut room = BATCH_BYTES.saturating_sub(opening);
    let parts = pending.take_columns(feed, &mut room, true);
    let mut counted_rows: u64 =
        parts.iter().map(|(place, part)| pending.columns(*place).counted_rows(part)).sum();
    let mut queued_bytes: usize =
        parts.iter().map(|(place, part)| pending.columns(*place).size_bytes(part)).sum();
    let mut records: usize = parts.iter().map(|(_, part)| part.len()).sum();
    let mut body = b"{\"replica_id\":".to_vec();
    put(&mut body, replica_id);
    body.extend_from_slice(b",\"sender\":");
    put(&mut body, sender);
    if redacted.len() > b"[]".len() {
        body.extend_from_slice(b",\"redacted\":");
        body.extend_from_slice(&redacted);
    }
    body.extend_from_slice(b",\"groups\":[");
    for (at, (place, part)) in parts.iter().enumerate() {
        separate(&mut body, at);
        pending.columns(*place).put(part, &mut body);
    }
    body.extend_from_slice(b"],\"records\":[");
    let mut at = 0;
    while let Some(row) = pending.take_row(feed, &mut room, records == 0) {
        counted_rows += row.counted_rows();
        queued_bytes += row.size_bytes();
        records += 1;
        separate(&mut body, at);
        at += 1;
        put(&mut body, &into_record(row));
    }
    body.extend_from_slice(b"]}");
    Batch { subject, body: body.into(), records, queued_bytes, counted_rows }
}

/// Whether a message has room for the record with its tensors, which take `size_bytes`.
pub(super) fn fits(observation: &Observation, size_bytes: usize) -> bool {
    // No element takes more than 13 times as much as JSON as it does in memory.
    size_bytes < SURE_BYTES || longest(observation) <= BATCH_BYTES / 2
}

fn record(tensor: &Tensor, redaction: &Redaction) -> RecordedTensor {
    RecordedTensor {
        name: tensor.name.clone(),
        datatype: tensor.datatype.name().to_owned(),
        shape: tensor.shape.clone(),
        data: redacted(tensor, redaction),
    }
}

/// Tensors with all of their values.
pub(crate) fn whole(tensors: &[Tensor]) -> Vec<RecordedTensor> {
    tensors.iter().map(|tensor| record(tensor, &Redaction::Nothing)).collect()
}

fn into_record(observation: Observation) -> PredictionRecord {
    let source = &observation.source;
    let recorded = |tensors: &[Tensor]| -> Vec<RecordedTensor> {
        tensors.iter().map(|tensor| record(tensor, &source.policy.redaction(&tensor.name))).collect()
    };
    let (outputs, error) = match &observation.outcome {
        Ok(outputs) => (Some(outputs), None),
        Err(error) => (None, Some(error.clone())),
    };
    let rows = observation.row_indices.as_ref().map_or(observation.rows, |indices| indices.len() as u64);
    let compared =
        observation.primary.as_ref().zip(outputs).filter(|(primary, _)| !primary.outputs.is_empty());
    let divergence = compared.map(|(primary, outputs)| {
        let (answered, shadow) = (whole(&primary.outputs), whole(outputs));
        divergence::between(&answered, &shadow, rows, source.prediction_output.as_deref())
    });
    PredictionRecord {
        non_finite_outputs: observation.count_non_finite(),
        sample_percent: source.policy.sampled(),
        inputs: recorded(&observation.inputs),
        outputs: outputs.map(|outputs| recorded(outputs)).unwrap_or_default(),
        rows: observation.rows,
        row_indices: observation.row_indices.as_ref().map(|indices| indices.to_vec()),
        error,
        divergence,
        shadow_of: observation.primary.as_ref().map(|primary| primary.source.version.clone()),
        deployment: source.deployment.clone(),
        model: source.model.clone(),
        version: source.version.clone(),
        variant: observation.variant,
        at_unix_ms: observation.at_unix_ms,
        latency_us: observation.latency_us(),
        request_id: observation.request_id,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use slipway_api::predictions::{PredictionBatch, Variant};

    use super::*;
    use crate::records::Primary;
    use crate::source::{RecordPolicy, Source};

    fn observation(source: &Arc<Source>, id: &str, rows: usize) -> Observation {
        let x: Vec<f32> = (0..rows * 2).map(|at| at as f32 / 10.0).collect();
        let shape = [i64::try_from(rows).unwrap(), 2];
        Observation {
            request_id: id.to_owned(),
            source: Arc::clone(source),
            variant: Variant::Stable,
            at_unix_ms: 7,
            latency: Duration::from_micros(9),
            rows: rows as u64,
            row_indices: None,
            inputs: Arc::new(vec![Tensor::fp32("x", shape, &x)]),
            non_finite_outputs: 0,
            outcome: Ok(Arc::new(vec![Tensor::strings("y", [shape[0]], vec!["\u{1}".to_owned(); rows])])),
            primary: None,
        }
    }

    fn source(policy: RecordPolicy) -> Arc<Source> {
        source_of("d", policy)
    }

    fn source_of(deployment: &str, policy: RecordPolicy) -> Arc<Source> {
        let text = |text: &str| text.to_owned();
        Arc::new(Source {
            deployment: text(deployment),
            model: text("m"),
            version: text("1"),
            prediction_output: None,
            policy,
            feed: Arc::new(Feed::new(deployment, Some("id"))),
        })
    }

    fn next(pending: &mut Pending) -> Batch {
        let feed = pending.next_feed().expect("something waits");
        let (subject, sender) =
            Head { sender: Sender::default(), published_rows: HashMap::new() }.sender(&feed);
        next_batch("replica", subject, &sender, &feed, pending)
    }

    fn pending(observations: impl IntoIterator<Item = Observation>) -> Pending {
        let mut pending = Pending::default();
        for observation in observations {
            pending.push(observation);
        }
        pending
    }

    #[test]
    fn what_is_written_in_columns_is_read_as_it_was() {
        let policy = RecordPolicy { redact: vec!["x[1]".into()], ..RecordPolicy::default() };
        let source = source(policy);
        let failed = Observation { outcome: Err("it \"failed\"".into()), ..observation(&source, "bad", 1) };
        let canary = Observation { variant: Variant::Candidate, ..observation(&source, "canary", 2) };
        let odd = Observation {
            inputs: Arc::new(vec![Tensor::fp32("x", [1, 3], &[0.5, 1.5, f32::NAN])]),
            ..observation(&source, "odd", 1)
        };
        let alike =
            [("a", 1), ("b", 3), ("empty", 0), ("c", 1)].map(|(id, rows)| observation(&source, id, rows));
        let mut all = pending(alike.into_iter().chain([canary, odd, failed, observation(&source, "d", 2)]));
        let batch = next(&mut all);
        assert_eq!((batch.records, all.len()), (8, 0));
        let read: PredictionBatch = serde_json::from_slice(&batch.body).unwrap();
        assert!(read.redacted.contains("x[1]") && read.redacted.len() == 1, "{:?}", read.redacted);
        let find = |id: &str| read.records.iter().find(|record| record.request_id == id).unwrap();
        assert_eq!(
            (find("b").rows, find("b").latency_us, find("empty").inputs[0].shape.clone()),
            (3, 9, vec![0, 2])
        );
        let x = |id: &str| serde_json::Value::from(find(id).inputs[0].data.clone());
        assert_eq!(x("b"), serde_json::json!([0.0, null, 0.2, null, 0.4, null]));
        assert_eq!(x("d"), serde_json::json!([0.0, null, 0.2, null]));
        assert_eq!(
            (x("odd"), find("odd").inputs[0].shape.clone()),
            (serde_json::json!([0.5, null, null]), vec![1, 3])
        );
        assert_eq!(find("c").outputs[0].data, ["\u{1}"]);
        assert_eq!((find("canary").variant, find("a").variant), (Variant::Candidate, Variant::Stable));
        assert_eq!((find("bad").error.as_deref(), find("bad").inputs.len()), (Some("it \"failed\""), 1));
    }

    #[test]
    fn answers_with_nan_are_counted_in_columns_rows_and_without_tensors() {
        let source = source(RecordPolicy { sample_percent: 50.0, ..RecordPolicy::default() });
        let answer = |id: &str, values: &[f32]| Observation {
            outcome: Ok(Arc::new(vec![Tensor::fp32("y", [1, 2], values)])),
            ..observation(&source, id, 1)
        };
        let shadow = Observation {
            variant: Variant::Shadow,
            primary: Some(Primary { source: Arc::clone(&source), outputs: Arc::default() }),
            ..answer("shadow", &[f32::INFINITY, f32::NAN])
        };
        let image = Arc::new(vec![Tensor::fp32("x", [1, 400_000], &vec![0.5; 400_000])]);
        let stripped = Observation { inputs: image, ..answer("stripped", &[f32::NAN, 1.0]) }.sampled();
        let answers =
            [answer("fine", &[0.5, 1.0]), answer("nan", &[f32::NAN, 1.0]), answer("later", &[1.0, 1.0])];
        let mut all = pending(answers.into_iter().chain([shadow, stripped]));
        let read: PredictionBatch = serde_json::from_slice(&next(&mut all).body).unwrap();
        let count = |id: &str| {
            let record = read.records.iter().find(|record| record.request_id == id).unwrap();
            assert_eq!(record.sample_percent, Some(50.0));
            record.non_finite_outputs
        };
        assert_eq!(["fine", "nan", "later", "shadow", "stripped"].map(count), [0, 1, 0, 2, 1]);
    }

    #[test]
    fn the_memory_of_what_was_sent_takes_the_next_records() {
        let (source, other) = (source(RecordPolicy::default()), source(RecordPolicy::default()));
        let ids = |pending: &mut Pending| -> Vec<String> {
            let batch = next(pending);
            let read: PredictionBatch = serde_json::from_slice(&batch.body).unwrap();
            read.records.into_iter().map(|record| record.request_id).collect()
        };
        let mut all = pending([observation(&source, "a", 1), observation(&other, "b", 2)]);
        assert_eq!(ids(&mut all), ["a", "b"]);
        let mut all = all.recycled();
        assert!(all.is_empty());
        all.push(observation(&other, "c", 3));
        assert_eq!(ids(&mut all), ["c"]);
        // The columns of the first had no records and are gone; those of the second have their place.
        let mut all = all.recycled();
        all.push(observation(&other, "d", 1));
        all.push(observation(&source, "e", 1));
        assert_eq!(ids(&mut all), ["d", "e"]);
    }

    #[test]
    fn no_message_is_longer_than_the_limit_and_all_are_sent() {
        let source = source(RecordPolicy::default());
        let ids: Vec<String> = (0..400).map(|at| format!("r-{at}")).collect();
        let alike = ids.iter().map(|id| observation(&source, id, 500));
        let rows = (0..40).map(|at| Observation {
            outcome: Err("\u{1}".repeat(10_000)),
            ..observation(&source, &format!("failed-{at}"), 2_000)
        });
        let all: Vec<Observation> = alike.chain(rows).collect();
        let size: usize = all.iter().map(Observation::size_bytes).sum();
        let mut all = pending(all);
        let (mut read, mut queued_bytes) = (Vec::new(), 0);
        while !all.is_empty() {
            let batch = next(&mut all);
            assert!(batch.body.len() <= BATCH_BYTES && batch.records > 0);
            queued_bytes += batch.queued_bytes;
            let message: PredictionBatch = serde_json::from_slice(&batch.body).unwrap();
            assert_eq!(message.records.len(), batch.records);
            read.extend(message.records);
        }
        assert_eq!((read.len(), queued_bytes), (440, size));
        let sent: Vec<&String> =
            read.iter().map(|record| &record.request_id).filter(|id| id.starts_with("r-")).collect();
        assert_eq!(sent, ids.iter().collect::<Vec<_>>());
        assert!(read.iter().all(|record| record.inputs[0].data.len() as u64 == record.rows * 2));
        let large = observation(&source, "large", 60_000);
        assert!(!fits(&large, large.size_bytes()));
        let large = large.sampled();
        assert!(fits(&large, large.size_bytes()));
    }

    #[test]
    fn a_message_holds_the_records_of_one_deployment_in_their_order() {
        let (one, other) = (source_of("b", RecordPolicy::default()), source_of("a", RecordPolicy::default()));
        let failed =
            |id: &str, source| Observation { outcome: Err("no".into()), ..observation(source, id, 1) };
        let mut all = pending([
            observation(&one, "b-1", 3),
            failed("a-1", &other),
            failed("b-2", &one),
            observation(&other, "a-2", 2),
            failed("a-3", &other),
        ]);
        let mut sent = Vec::new();
        while !all.is_empty() {
            let batch = next(&mut all);
            let read: PredictionBatch = serde_json::from_slice(&batch.body).unwrap();
            assert!(
                read.records
                    .iter()
                    .all(|record| batch.subject.ends_with(&format!(".{}.id", record.deployment)))
            );
            assert_eq!(
                read.records.iter().map(PredictionRecord::counted_rows).sum::<u64>(),
                batch.counted_rows
            );
            sent.extend(read.records.into_iter().map(|record| record.request_id));
        }
        assert_eq!(sent, ["a-1", "a-3", "a-2", "b-2", "b-1"]);
    }

    #[test]
    fn of_a_large_request_a_sample_of_rows_is_recorded() {
        let source = source(RecordPolicy::default());
        let rows = 50_000;
        let strings: Vec<String> = (0..rows).map(|row| row.to_string()).collect();
        let whole = Observation {
            outcome: Ok(Arc::new(vec![
                Tensor::strings("y", [50_000], strings),
                Tensor::fp32("constant", [1], &[1.0]),
            ])),
            ..observation(&source, "large", rows)
        };
        let sampled = whole.clone().sampled();
        assert_eq!(sampled.row_indices, whole.clone().sampled().row_indices, "the same rows each time");
        let other = Observation { request_id: "another".into(), ..whole }.sampled();
        assert_ne!(sampled.row_indices, other.row_indices);
        let mut all = pending([sampled]);
        let batch = next(&mut all);
        assert!(batch.body.len() <= BATCH_BYTES && batch.counted_rows == 50_000, "{}", batch.body.len());
        let read: PredictionBatch = serde_json::from_slice(&batch.body).unwrap();
        let record = &read.records[0];
        let kept = record.row_indices.clone().unwrap();
        assert!(record.rows == 50_000 && kept.len() > 3_000 && kept.is_sorted(), "{}", kept.len());
        assert_eq!(record.outputs.len(), 1, "what is not by row has no rows to sample");
        for (at, row) in kept.iter().enumerate() {
            assert_eq!(record.outputs[0].data[at], row.to_string());
            assert_eq!(record.inputs[0].data[at * 2].as_f64().unwrap() as f32, (row * 2) as f32 / 10.0);
        }
        // Over the whole of the request.
        let mean = kept.iter().sum::<u64>() / kept.len() as u64;
        assert!((24_000..26_000).contains(&mean), "{mean}");

        let image = vec![0.5; 400_000];
        let one = Observation {
            inputs: Arc::new(vec![Tensor::fp32("x", [1, 400_000], &image)]),
            ..observation(&source, "image", 1)
        };
        let one = one.sampled();
        assert!(one.inputs.is_empty() && one.row_indices.as_ref().is_some_and(|indices| indices.is_empty()));
    }
}
