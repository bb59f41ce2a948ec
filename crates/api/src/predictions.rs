//! Prediction records and labels: what serving publishes about the answers it gave.

use serde::{Deserialize, Serialize};

/// JetStream stream of prediction records.
pub const PREDICTIONS_STREAM: &str = "SLIPWAY_PREDICTIONS";
/// Subject of [`PredictionBatch`] messages.
pub const PREDICTIONS_SUBJECT: &str = "slipway.serving.prediction.recorded";
/// JetStream stream of labels.
pub const LABELS_STREAM: &str = "SLIPWAY_LABELS";
/// Subject of [`LabelRecord`] messages.
pub const LABELS_SUBJECT: &str = "slipway.serving.label.recorded";

/// One message of [`PREDICTIONS_SUBJECT`]. It is read from rows and from columns ([`crate::prediction_columns`]) alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "crate::prediction_columns::Batch")]
pub struct PredictionBatch {
    /// Serving replica that answered.
    pub replica_id: String,
    /// The records, in the order in which the answers were given (to a millisecond).
    pub records: Vec<PredictionRecord>,
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
    /// The prediction of each row: the first element of the row in `output`, or, where that is `None`, in the first output
    /// of whole numbers, strings or booleans, or else in the first output.
    pub fn predictions(&self, output: Option<&str>) -> Vec<serde_json::Value> {
        let Some(tensor) = prediction_tensor(&self.outputs, output) else { return Vec::new() };
        let rows = usize::try_from(self.rows).unwrap_or(0);
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
    fn labels_compare_as_numbers_where_both_are() {
        assert!(label_matches(&json!(1), &json!(1.0)));
        assert!(label_matches(&json!("cat"), &json!("cat")));
        assert!(!label_matches(&json!(1), &json!(0)));
        assert!(!label_matches(&json!("1"), &json!("0")));
    }
}
