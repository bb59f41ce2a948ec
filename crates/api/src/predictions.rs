//! Prediction records and labels: what serving publishes about the answers it gave.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// JetStream stream of prediction records.
pub const PREDICTIONS_STREAM: &str = "SLIPWAY_PREDICTIONS";
/// Subject of [`PredictionBatch`] messages before each deployment had its own; nothing is published on it any
/// more. It begins the subjects of deployments, see [`records_subject`].
pub const PREDICTIONS_SUBJECT: &str = "slipway.serving.prediction.recorded";
/// Subjects of [`PREDICTIONS_STREAM`]: `<PREDICTIONS_SUBJECT>.<deployment>.<sender>`, and the one of old
/// messages.
pub const PREDICTIONS_SUBJECTS: [&str; 2] = [PREDICTIONS_SUBJECT, "slipway.serving.prediction.recorded.*.*"];
/// JetStream stream of labels.
pub const LABELS_STREAM: &str = "SLIPWAY_LABELS";
/// Subject of [`LabelRecord`] messages.
pub const LABELS_SUBJECT: &str = "slipway.serving.label.recorded";

/// One message of [`PREDICTIONS_STREAM`]: records of one deployment by one replica. It is read from rows and
/// from columns ([`crate::prediction_columns`]) alike.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "crate::prediction_columns::Batch")]
pub struct PredictionBatch {
    /// Serving replica that answered.
    pub replica_id: String,
    /// Which process sent it, for which deployment.
    #[serde(default)]
    pub sender: Sender,
    /// Tensors (`name`) and places of their rows (`name[3]`) that are recorded as null in records of the
    /// batch, whatever their values.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub redacted: BTreeSet<String>,
    /// The records, in the order in which the answers were given (to a millisecond).
    pub records: Vec<PredictionRecord>,
}

/// Who published a [`PredictionBatch`], and what went before it: a gap in the counts is what the reader did
/// not get.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Sender {
    /// What the process takes its models from.
    pub origin: Origin,
    /// Identity of the deployment, from its traffic table. Absent in folder mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Identity of the run of the process: another one after each start.
    pub run: String,
    /// When the run began, Unix time in milliseconds.
    pub run_started_at_unix_ms: u64,
    /// Rows of [counted](PredictionRecord::counted_rows) records that this run published for the deployment
    /// before this message.
    pub rows_before: u64,
    /// Rows of counted records that this run has dropped so far, because the queue to NATS was full.
    pub dropped_rows: u64,
}

/// What a serving process takes its models from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A message from before senders were recorded.
    #[default]
    Unknown,
    /// The rollout controller's traffic tables.
    Controller,
    /// A folder of models (`--model-dir`).
    Folder,
}

/// Subject of the records of one deployment: `<PREDICTIONS_SUBJECT>.<deployment>.<sender>`. The sender is the
/// deployment's identity, `folder`, or `-` where a traffic table has no identity. Bytes that a subject cannot
/// hold are written as `%XX`.
pub fn records_subject(deployment: &str, sender: &Sender) -> String {
    let sender = match (sender.origin, &sender.deployment_id) {
        (Origin::Folder, _) => "folder".to_owned(),
        (_, Some(id)) => subject_token(id),
        (_, None) => "-".to_owned(),
    };
    format!("{PREDICTIONS_SUBJECT}.{}.{sender}", subject_token(deployment))
}

/// Subjects on which records of a deployment may arrive: its own, and the one of old messages, which holds
/// the records of all deployments.
pub fn records_filter(deployment: &str) -> [String; 2] {
    [format!("{PREDICTIONS_SUBJECT}.{}.*", subject_token(deployment)), PREDICTIONS_SUBJECT.to_owned()]
}

/// A name as one token of a NATS subject.
///
/// Source:
/// <https://docs.nats.io/nats-concepts/subjects#characters-allowed-and-recommended-for-subject-names>.
fn subject_token(name: &str) -> String {
    use std::fmt::Write as _;
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(token, "%{byte:02X}");
        }
    }
    token
}

impl PredictionBatch {
    /// Whether the records are those of the deployment with this identity. Old messages carry none, and count
    /// for every deployment that their records name; so do all messages of controllers whose deployments have
    /// no identity (`None`).
    pub fn is_of(&self, deployment_id: Option<&str>) -> bool {
        match self.sender.origin {
            Origin::Unknown => true,
            Origin::Folder => false,
            Origin::Controller => {
                deployment_id.is_none_or(|id| self.sender.deployment_id.as_deref() == Some(id))
            }
        }
    }
}

/// Why a version saw a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The stable version answered.
    Stable,
    /// A weighted candidate answered.
    Candidate,
    /// A copy of the request; the client never saw the answer.
    Shadow,
    /// The client asked for this version by number.
    Pinned,
}

/// One request as one version saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PredictionRecord {
    /// The client's id, or one made for it. A shadow has the id of its primary.
    pub request_id: String,
    /// Deployment that the client called.
    pub deployment: String,
    /// Registered model behind it.
    pub model: String,
    /// Version that ran.
    pub version: String,
    /// Why it ran.
    pub variant: Variant,
    /// When the answer was ready, Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// Time in the model and its queue, microseconds.
    pub latency_us: u64,
    /// Rows of the request: its batch size.
    pub rows: u64,
    /// For a request too large to record whole: the rows whose values are in the tensors, counted from 0,
    /// ascending. Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_indices: Option<Vec<u64>>,
    /// What went wrong, where it did; outputs are empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The features.
    pub inputs: Vec<RecordedTensor>,
    /// The outputs.
    pub outputs: Vec<RecordedTensor>,
    /// Output values that are NaN or infinite; they are `null` in `outputs`, as redacted ones are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub non_finite_outputs: u64,
    /// Share of the version's requests that leave a record, in percent; absent where all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_percent: Option<f64>,
    /// For a shadow: version whose answer the client got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_of: Option<String>,
    /// For a shadow: how its answer differs from the one that the client got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A tensor with its values flat, row-major. NaN and infinities are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordedTensor {
    /// Name of the model's input or output.
    pub name: String,
    /// Open Inference Protocol name, e.g. FP32.
    pub datatype: String,
    /// Shape; the first dimension is the batch.
    pub shape: Vec<i64>,
    /// Values, flat.
    pub data: Vec<serde_json::Value>,
}

/// Two versions' answers to the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Divergence {
    /// Rows compared.
    pub compared_rows: u64,
    /// Rows whose prediction differs.
    pub differing_rows: u64,
    /// Largest difference of any numeric output value.
    pub max_abs_difference: f64,
}

/// True values for a past prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LabelRecord {
    /// Id of the prediction's request.
    pub request_id: String,
    /// Deployment that answered it.
    pub deployment: String,
    /// One label a row of the request.
    pub labels: Vec<serde_json::Value>,
    /// When the label arrived, Unix time in milliseconds.
    pub at_unix_ms: u64,
}

impl PredictionRecord {
    /// Rows whose values are in the tensors: all of the request, or a sample.
    pub fn recorded_rows(&self) -> u64 {
        self.row_indices.as_ref().map_or(self.rows, |indices| indices.len() as u64)
    }

    /// Place in the request of a recorded row.
    pub fn row_index(&self, recorded: u64) -> u64 {
        let sampled = self.row_indices.as_ref();
        let index = sampled.and_then(|indices| indices.get(usize::try_from(recorded).ok()?));
        index.copied().unwrap_or(recorded)
    }

    /// Rows that a client of the deployment got an answer for: none for shadows, pinned versions and errors.
    pub fn counted_rows(&self) -> u64 {
        let counted = matches!(self.variant, Variant::Stable | Variant::Candidate) && self.error.is_none();
        if counted { self.rows } else { 0 }
    }

    /// The prediction of each recorded row: the first element of the row in `output`, or, where that is
    /// `None`, in the first output of whole numbers, strings or booleans, or else in the first output.
    pub fn predictions(&self, output: Option<&str>) -> Vec<serde_json::Value> {
        let Some(tensor) = prediction_tensor(&self.outputs, output) else { return Vec::new() };
        let rows = usize::try_from(self.recorded_rows()).unwrap_or(0);
        if rows == 0 || tensor.data.is_empty() {
            return Vec::new();
        }
        let width = (tensor.data.len() / rows).max(1);
        tensor.data.iter().step_by(width).take(rows).cloned().collect()
    }
}

/// The output that holds the prediction; see [`PredictionRecord::predictions`].
pub fn prediction_tensor<'tensor>(
    outputs: &'tensor [RecordedTensor],
    named: Option<&str>,
) -> Option<&'tensor RecordedTensor> {
    if let Some(name) = named {
        return outputs.iter().find(|tensor| tensor.name == name);
    }
    outputs
        .iter()
        .find(|tensor| !tensor.datatype.contains("FP") && tensor.datatype != "BF16")
        .or(outputs.first())
}

/// Whether a label confirms a prediction: as numbers where both are, else as text.
pub fn label_matches(prediction: &serde_json::Value, label: &serde_json::Value) -> bool {
    match (as_number(prediction), as_number(label)) {
        (Some(left), Some(right)) => (left - right).abs() < f64::EPSILON * left.abs().max(1.0),
        _ => as_text(prediction) == as_text(label),
    }
}

fn as_number(value: &serde_json::Value) -> Option<f64> {
    match value {
        serde_json::Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        other => other.as_f64(),
    }
}

fn as_text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(outputs: Vec<RecordedTensor>, rows: u64) -> PredictionRecord {
        PredictionRecord {
            request_id: "r".into(),
            deployment: "d".into(),
            model: "m".into(),
            version: "1".into(),
            variant: Variant::Stable,
            at_unix_ms: 0,
            latency_us: 0,
            rows,
            row_indices: None,
            error: None,
            inputs: Vec::new(),
            outputs,
            non_finite_outputs: 0,
            sample_percent: None,
            shadow_of: None,
            divergence: None,
        }
    }

    #[test]
    fn the_label_output_wins_over_probabilities() {
        let probabilities = RecordedTensor {
            name: "probabilities".into(),
            datatype: "FP32".into(),
            shape: vec![2, 2],
            data: vec![json!(0.1), json!(0.9), json!(0.8), json!(0.2)],
        };
        let label = RecordedTensor {
            name: "label".into(),
            datatype: "INT64".into(),
            shape: vec![2],
            data: vec![json!(1), json!(0)],
        };
        let record = record(vec![probabilities, label], 2);
        assert_eq!(record.predictions(None), vec![json!(1), json!(0)]);
        assert_eq!(record.predictions(Some("probabilities")), vec![json!(0.1), json!(0.8)]);
    }

    #[test]
    fn a_sample_of_rows_keeps_their_places() {
        let label = RecordedTensor {
            name: "label".into(),
            datatype: "INT64".into(),
            shape: vec![2],
            data: vec![json!(1), json!(0)],
        };
        let sampled = PredictionRecord { row_indices: Some(vec![3, 17]), ..record(vec![label], 20) };
        assert_eq!(sampled.predictions(None), vec![json!(1), json!(0)]);
        assert_eq!((sampled.recorded_rows(), sampled.row_index(1), sampled.counted_rows()), (2, 17, 20));
        let text = serde_json::to_string(&sampled).unwrap();
        assert_eq!(serde_json::from_str::<PredictionRecord>(&text).unwrap(), sampled);
    }

    #[test]
    fn every_name_is_one_token_of_a_subject() {
        let sender =
            Sender { origin: Origin::Controller, deployment_id: Some("id-1".into()), ..Sender::default() };
        assert_eq!(records_subject("cancer", &sender), "slipway.serving.prediction.recorded.cancer.id-1");
        let folder = Sender { origin: Origin::Folder, ..Sender::default() };
        assert_eq!(
            records_subject("a.b *é>", &folder),
            "slipway.serving.prediction.recorded.a%2Eb%20%2A%C3%A9%3E.folder"
        );
        assert_eq!(records_filter("a.b")[0], "slipway.serving.prediction.recorded.a%2Eb.*");
    }

    #[test]
    fn records_of_other_deployments_of_the_name_are_told_apart() {
        let batch = |origin, id: Option<&str>| PredictionBatch {
            replica_id: "r".into(),
            sender: Sender { origin, deployment_id: id.map(str::to_owned), ..Sender::default() },
            ..PredictionBatch::default()
        };
        assert!(batch(Origin::Controller, Some("a")).is_of(Some("a")));
        assert!(!batch(Origin::Controller, Some("b")).is_of(Some("a")));
        assert!(!batch(Origin::Controller, None).is_of(Some("a")));
        assert!(!batch(Origin::Folder, None).is_of(None));
        let old: PredictionBatch = serde_json::from_value(json!({"replica_id": "r"})).unwrap();
        assert!(old.is_of(Some("a")) && old.sender == Sender::default());
    }

    #[test]
    fn labels_compare_as_numbers_where_both_are() {
        assert!(label_matches(&json!(1), &json!(1.0)));
        assert!(label_matches(&json!("cat"), &json!("cat")));
        assert!(!label_matches(&json!(1), &json!(0)));
        assert!(!label_matches(&json!("1"), &json!("0")));
    }
}
