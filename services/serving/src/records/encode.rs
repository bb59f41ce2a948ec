//! From observations to the messages of the stream: columns of what is alike, rows of the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use slipway_api::predictions::{PredictionRecord, RecordedTensor};
use slipway_inference::{Data, Datatype, Tensor};

use super::policy::Redaction;
use super::{Observation, RecordPolicy};
use crate::codec::{json_values, put_values};
use crate::divergence;
use crate::routing::Source;

/// A message is no longer than this; NATS takes a MiB at most.
const BATCH_BYTES: usize = 768 * 1024;
/// What a record takes beside its tensors and its id.
const RECORD_BYTES: usize = 256;
/// What a group takes beside its records.
const GROUP_BYTES: usize = 512;

/// A message for the stream.
pub(super) struct Batch {
    pub(super) body: Bytes,
    pub(super) records: usize,
    /// Memory that its tensors took in the queue.
    pub(super) queued_bytes: usize,
    pub(super) without_tensors: usize,
}

/// Takes as many observations as surely fit a message.
pub(super) fn next_batch(replica_id: &str, observations: &mut VecDeque<Observation>) -> Batch {
    let mut taken: Vec<Observation> = Vec::new();
    let (mut bytes, mut queued_bytes, mut without_tensors) = (replica_id.len() * 6 + GROUP_BYTES, 0, 0);
    while let Some(observation) = observations.front() {
        let mut most = longest(observation);
        let alone = most > BATCH_BYTES - bytes.min(BATCH_BYTES);
        if alone && !taken.is_empty() {
            break;
        }
        let Some(mut observation) = observations.pop_front() else { break };
        queued_bytes += observation.size_bytes();
        if alone {
            observation = observation.without_tensors();
            without_tensors += 1;
            most = longest(&observation);
        }
        bytes += most;
        taken.push(observation);
    }
    let records = taken.len();
    Batch { body: write(replica_id, taken).into(), records, queued_bytes, without_tensors }
}

/// No JSON of the record is longer.
fn longest(observation: &Observation) -> usize {
    let tensors = |tensors: &[Tensor]| tensors.iter().map(longest_tensor).sum::<usize>();
    let source = &observation.source;
    let names =
        source.deployment.len() + source.model.len() + source.version.len() + observation.request_id.len();
    let outcome = match &observation.outcome {
        Ok(outputs) => tensors(outputs),
        Err(error) => error.len() * 6,
    };
    RECORD_BYTES + GROUP_BYTES + names * 6 + tensors(&observation.inputs) + outcome
}

fn longest_tensor(tensor: &Tensor) -> usize {
    let each = match tensor.datatype {
        Datatype::Bool => 6,
        Datatype::Int8 | Datatype::Uint8 => 5,
        Datatype::Int16 | Datatype::Uint16 => 7,
        Datatype::Int32 | Datatype::Uint32 => 12,
        Datatype::Int64 | Datatype::Uint64 => 21,
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 => 26,
        Datatype::Fp64 => 26,
        // A control character is six.
        Datatype::Bytes => 6,
    };
    let values = match &tensor.data {
        Data::Raw(_) => tensor.elements() * each,
        Data::Strings(strings) => strings.iter().map(|text| text.len() * each + 5).sum(),
    };
    values + tensor.name.len() * 6 + tensor.shape.len() * 21 + 64
}

/// Records of one version whose tensors are alike.
struct Group {
    members: Vec<Observation>,
}

impl Group {
    fn takes(&self, observation: &Observation) -> bool {
        let Some(first) = self.members.first() else { return false };
        let alike = |left: &[Tensor], right: &[Tensor]| {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| {
                    left.name == right.name
                        && left.datatype == right.datatype
                        && left.shape.get(1..) == right.shape.get(1..)
                })
        };
        let (Ok(outputs), Ok(others)) = (&first.outcome, &observation.outcome) else { return false };
        (Arc::ptr_eq(&first.source, &observation.source) || first.source == observation.source)
            && first.variant == observation.variant
            && alike(&first.inputs, &observation.inputs)
            && alike(outputs, others)
    }
}

/// Whether a record can be a part of columns: an answer, each tensor of which has the record's rows.
fn is_regular(observation: &Observation) -> bool {
    let by_rows = |tensors: &[Tensor]| {
        tensors.iter().all(|tensor| !tensor.shape.is_empty() && tensor.rows() == observation.rows)
    };
    observation.primary.is_none()
        && by_rows(&observation.inputs)
        && observation.outcome.as_ref().is_ok_and(|outputs| by_rows(outputs))
}

fn write(replica_id: &str, observations: Vec<Observation>) -> Vec<u8> {
    let mut groups: Vec<Group> = Vec::new();
    // By source: to look at every group for each record would cost more with each model under load.
    let mut places: HashMap<*const Source, Vec<usize>> = HashMap::new();
    let mut rows = Vec::new();
    for observation in observations {
        if !is_regular(&observation) {
            rows.push(observation);
            continue;
        }
        // The newest group is the likeliest.
        let known = places.entry(Arc::as_ptr(&observation.source)).or_insert_with(|| {
            // The same version before a change of the table.
            groups.iter().rposition(|group| group.takes(&observation)).into_iter().collect()
        });
        match known.iter().rev().find(|at| groups[**at].takes(&observation)) {
            Some(at) => groups[*at].members.push(observation),
            None => {
                known.push(groups.len());
                groups.push(Group { members: vec![observation] });
            }
        }
    }
    let mut body = b"{\"replica_id\":".to_vec();
    put(&mut body, &replica_id);
    body.extend_from_slice(b",\"groups\":[");
    for (at, group) in groups.iter().enumerate() {
        separate(&mut body, at);
        put_group(&mut body, group);
    }
    body.extend_from_slice(b"],\"records\":[");
    for (at, observation) in rows.into_iter().enumerate() {
        separate(&mut body, at);
        put(&mut body, &into_record(observation));
    }
    body.extend_from_slice(b"]}");
    body
}

fn put_group(body: &mut Vec<u8>, group: &Group) {
    let Some(first) = group.members.first() else { return };
    let source = &first.source;
    for (key, value) in [
        (&b"{\"deployment\":"[..], &source.deployment),
        (b",\"model\":", &source.model),
        (b",\"version\":", &source.version),
    ] {
        body.extend_from_slice(key);
        put(body, value);
    }
    body.extend_from_slice(b",\"variant\":");
    put(body, &first.variant);
    let members = &group.members;
    put_column(body, "request_ids", members, |member| &*member.request_id);
    put_column(body, "at_unix_ms", members, |member| member.at_unix_ms);
    put_column(body, "latency_us", members, latency_us);
    put_column(body, "rows", members, |member| member.rows);
    body.extend_from_slice(b",\"inputs\":[");
    put_tensors(body, &source.policy, members, |member| &member.inputs);
    body.extend_from_slice(b"],\"outputs\":[");
    put_tensors(body, &source.policy, members, |member| {
        member.outcome.as_ref().map_or(&[][..], |outputs| outputs)
    });
    body.extend_from_slice(b"]}");
}

fn put_column<'member, T: Serialize>(
    body: &mut Vec<u8>,
    name: &str,
    members: &'member [Observation],
    value: impl Fn(&'member Observation) -> T,
) {
    body.extend_from_slice(b",\"");
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(b"\":[");
    for (at, member) in members.iter().enumerate() {
        separate(body, at);
        put(body, &value(member));
    }
    body.push(b']');
}

fn put_tensors(
    body: &mut Vec<u8>,
    policy: &RecordPolicy,
    members: &[Observation],
    tensors: impl Fn(&Observation) -> &[Tensor],
) {
    let Some(first) = members.first() else { return };
    for (place, tensor) in tensors(first).iter().enumerate() {
        separate(body, place);
        body.extend_from_slice(b"{\"name\":");
        put(body, &tensor.name);
        body.extend_from_slice(b",\"datatype\":");
        put(body, &tensor.datatype.name());
        body.extend_from_slice(b",\"row_shape\":");
        put(body, &tensor.shape.get(1..).unwrap_or_default());
        body.extend_from_slice(b",\"data\":[");
        let redaction = policy.redaction(&tensor.name);
        let mut any = false;
        for tensor in members.iter().filter_map(|member| tensors(member).get(place)) {
            if tensor.elements() == 0 {
                continue;
            }
            if std::mem::replace(&mut any, true) {
                body.push(b',');
            }
            match redaction {
                Redaction::Nothing => put_values(tensor, body),
                _ => put_redacted(tensor, &redaction, body),
            }
        }
        body.extend_from_slice(b"]}");
    }
}

fn put_redacted(tensor: &Tensor, redaction: &Redaction, body: &mut Vec<u8>) {
    for (at, value) in redacted(tensor, redaction).iter().enumerate() {
        separate(body, at);
        put(body, value);
    }
}

/// The values of a tensor, null in place of those that are not recorded.
pub(super) fn redacted(tensor: &Tensor, redaction: &Redaction) -> Vec<serde_json::Value> {
    let mut values = json_values(tensor);
    let rows = usize::try_from(tensor.rows()).unwrap_or(0).max(1);
    let width = (values.len() / rows).max(1);
    match redaction {
        Redaction::Nothing => {}
        Redaction::Everything => values.fill(serde_json::Value::Null),
        Redaction::Columns(columns) => {
            for row in values.chunks_mut(width) {
                for column in columns {
                    if let Some(value) = row.get_mut(*column) {
                        *value = serde_json::Value::Null;
                    }
                }
            }
        }
    }
    values
}

fn separate(body: &mut Vec<u8>, at: usize) {
    if at > 0 {
        body.push(b',');
    }
}

/// Appends a value; writing into memory cannot fail, and none of these has a form that JSON lacks.
fn put<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) {
    if serde_json::to_writer(&mut *body, value).is_err() {
        body.extend_from_slice(b"null");
    }
}

fn latency_us(observation: &Observation) -> u64 {
    u64::try_from(observation.latency.as_micros()).unwrap_or(u64::MAX)
}

fn into_record(observation: Observation) -> PredictionRecord {
    let source = &observation.source;
    let record = |tensor: &Tensor, redaction: &Redaction| RecordedTensor {
        name: tensor.name.clone(),
        datatype: tensor.datatype.name().to_owned(),
        shape: tensor.shape.clone(),
        data: redacted(tensor, redaction),
    };
    let whole = |tensors: &[Tensor]| -> Vec<RecordedTensor> {
        tensors.iter().map(|tensor| record(tensor, &Redaction::Nothing)).collect()
    };
    let recorded = |tensors: &[Tensor]| -> Vec<RecordedTensor> {
        tensors.iter().map(|tensor| record(tensor, &source.policy.redaction(&tensor.name))).collect()
    };
    let (outputs, error) = match &observation.outcome {
        Ok(outputs) => (Some(outputs), None),
        Err(error) => (None, Some(error.clone())),
    };
    let compared =
        observation.primary.as_ref().zip(outputs).filter(|(primary, _)| !primary.outputs.is_empty());
    let divergence = compared.map(|(primary, outputs)| {
        let (answered, shadow) = (whole(&primary.outputs), whole(outputs));
        divergence::between(&answered, &shadow, observation.rows, source.prediction_output.as_deref())
    });
    PredictionRecord {
        inputs: recorded(&observation.inputs),
        outputs: outputs.map(|outputs| recorded(outputs)).unwrap_or_default(),
        rows: observation.rows,
        error,
        divergence,
        shadow_of: observation.primary.as_ref().map(|primary| primary.source.version.clone()),
        deployment: source.deployment.clone(),
        model: source.model.clone(),
        version: source.version.clone(),
        variant: observation.variant,
        at_unix_ms: observation.at_unix_ms,
        latency_us: latency_us(&observation),
        request_id: observation.request_id,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use slipway_api::predictions::{PredictionBatch, Variant};

    use super::*;
    use crate::routing::Source;

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
            inputs: Arc::new(vec![Tensor::fp32("x", shape, &x)]),
            outcome: Ok(Arc::new(vec![Tensor::strings("y", [shape[0]], vec!["\u{1}".to_owned(); rows])])),
            primary: None,
        }
    }

    fn source(policy: RecordPolicy) -> Arc<Source> {
        let text = |text: &str| text.to_owned();
        Arc::new(Source {
            deployment: text("d"),
            model: text("m"),
            version: text("1"),
            prediction_output: None,
            policy,
        })
    }

    #[test]
    fn what_is_written_in_columns_is_read_as_it_was() {
        let policy = RecordPolicy { redact: vec!["x[1]".into()], ..RecordPolicy::default() };
        let source = source(policy);
        let mut all: VecDeque<Observation> = [("a", 1), ("b", 3), ("empty", 0), ("c", 1)]
            .map(|(id, rows)| observation(&source, id, rows))
            .into();
        let failed = Observation { outcome: Err("it \"failed\"".into()), ..observation(&source, "bad", 1) };
        all.push_back(failed);
        let batch = next_batch("replica", &mut all);
        assert_eq!((batch.records, all.len()), (5, 0));
        let read: PredictionBatch = serde_json::from_slice(&batch.body).unwrap();
        let find = |id: &str| read.records.iter().find(|record| record.request_id == id).unwrap();
        assert_eq!(
            (find("b").rows, find("b").latency_us, find("empty").inputs[0].shape.clone()),
            (3, 9, vec![0, 2])
        );
        let x = serde_json::json!([0.0, null, 0.2, null, 0.4, null]);
        assert_eq!(serde_json::Value::from(find("b").inputs[0].data.clone()), x);
        assert_eq!(find("c").outputs[0].data, ["\u{1}"]);
        assert_eq!((find("bad").error.as_deref(), find("bad").inputs.len()), (Some("it \"failed\""), 1));
    }

    #[test]
    fn no_message_is_longer_than_the_limit() {
        let source = source(RecordPolicy::default());
        let mut all: VecDeque<Observation> = (0..400).map(|_| observation(&source, "r", 500)).collect();
        all.push_back(observation(&source, "large", 60_000));
        let (mut records, mut without) = (0, 0);
        while !all.is_empty() {
            let batch = next_batch("replica", &mut all);
            assert!(batch.body.len() <= BATCH_BYTES && batch.records > 0);
            records += batch.records;
            without += batch.without_tensors;
        }
        assert_eq!((records, without), (401, 1));
    }
}
