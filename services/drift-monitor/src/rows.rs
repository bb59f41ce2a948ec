//! Prediction records as rows of the profile's columns.

use serde_json::Value as Json;
use slipway_api::predictions::{PredictionBatch, PredictionRecord, RecordedTensor, Variant};
use slipway_domain::drift::{Profile, Value, Window};

/// Rows of one record at most; a record that claims more is no record of ours.
const MAX_ROWS_PER_RECORD: u64 = 1_000_000;

/// Records of one batch that a monitor counts: answers that clients of its deployment saw.
pub(crate) fn eligible<'batch>(
    batch: &'batch PredictionBatch,
    deployment: &'batch str,
) -> impl Iterator<Item = &'batch PredictionRecord> {
    batch.records.iter().filter(move |record| {
        record.deployment == deployment
            && matches!(record.variant, Variant::Stable | Variant::Candidate)
            && record.error.is_none()
            && record.rows <= MAX_ROWS_PER_RECORD
            && !record.inputs.is_empty()
    })
}

/// The rows of one record, ready to be counted.
#[derive(Debug)]
pub(crate) struct Rows<'record> {
    features: Vec<Column<'record>>,
    predictions: Vec<Column<'record>>,
}

/// Where one column's values are: element `offset + row * width` of a tensor.
#[derive(Debug, Clone, Copy)]
struct Column<'record> {
    data: &'record [Json],
    offset: usize,
    width: usize,
}

impl<'record> Rows<'record> {
    /// Finds the profile's columns in the record: by position in the columns of a single two-dimensional input, else by
    /// the input's name. Predictions are found by the output's name; the first of them is otherwise the prediction itself.
    pub(crate) fn new(
        profile: &Profile,
        record: &'record PredictionRecord,
        prediction_output: Option<&str>,
    ) -> Self {
        let features = match record.inputs.as_slice() {
            [only] if only.shape.len() == 2 => {
                let width = width(only, record.rows);
                (0..profile.features.len())
                    .map(
                        |offset| {
                            if offset < width { Column { data: &only.data, offset, width } } else { ABSENT }
                        },
                    )
                    .collect()
            }
            inputs => {
                profile.features.iter().map(|column| by_name(inputs, &column.name, record.rows)).collect()
            }
        };
        let predictions = profile.predictions.iter().enumerate().map(|(index, column)| {
            let named = by_name(&record.outputs, &column.name, record.rows);
            if index > 0 || !named.data.is_empty() {
                return named;
            }
            slipway_api::predictions::prediction_tensor(&record.outputs, prediction_output)
                .map_or(ABSENT, |tensor| first_elements(tensor, record.rows))
        });
        Self { features, predictions: predictions.collect() }
    }

    /// Counts row `row` in `window`.
    pub(crate) fn add_to(&self, window: &mut Window, profile: &Profile, row: u64) {
        let row = usize::try_from(row).unwrap_or(usize::MAX);
        let values = |columns: &[Column<'record>]| -> Vec<Value<'record>> {
            columns.iter().map(|column| column.value(row)).collect()
        };
        window.add_row(profile, &values(&self.features), &values(&self.predictions));
    }
}

const ABSENT: Column<'static> = Column { data: &[], offset: 0, width: 1 };

impl<'record> Column<'record> {
    fn value(&self, row: usize) -> Value<'record> {
        let place = row.checked_mul(self.width).and_then(|start| start.checked_add(self.offset));
        match place.and_then(|place| self.data.get(place)) {
            Some(Json::Bool(flag)) => Value::Number(f64::from(u8::from(*flag))),
            Some(Json::Number(number)) => number.as_f64().map_or(Value::Missing, Value::Number),
            Some(Json::String(text)) => Value::Text(text),
            Some(Json::Null | Json::Array(_) | Json::Object(_)) | None => Value::Missing,
        }
    }
}

fn by_name<'record>(tensors: &'record [RecordedTensor], name: &str, rows: u64) -> Column<'record> {
    tensors.iter().find(|tensor| tensor.name == name).map_or(ABSENT, |tensor| first_elements(tensor, rows))
}

fn first_elements(tensor: &RecordedTensor, rows: u64) -> Column<'_> {
    Column { data: &tensor.data, offset: 0, width: width(tensor, rows) }
}

fn width(tensor: &RecordedTensor, rows: u64) -> usize {
    let rows = usize::try_from(rows).unwrap_or(usize::MAX).max(1);
    (tensor.data.len() / rows).max(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use slipway_domain::drift::{Thresholds, score};

    use super::*;

    fn profile(features: &[&str]) -> Profile {
        let features: Vec<_> = features
            .iter()
            .map(|name| json!({"name": name, "min": 0, "max": 10, "edges": [5.0], "counts": [5, 5], "sample": [1.0, 9.0]}))
            .collect();
        serde_json::from_value(json!({"schema": "slipway.profile/1", "rows": 10, "features": features,
            "predictions": [{"name": "label", "kind": "categorical", "values": ["0", "1"], "counts": [5, 5]}]}))
        .unwrap()
    }

    fn tensor(name: &str, shape: &[i64], data: serde_json::Value) -> RecordedTensor {
        let serde_json::Value::Array(data) = data else { panic!("a list") };
        RecordedTensor { name: name.into(), datatype: "FP32".into(), shape: shape.to_vec(), data }
    }

    fn record(rows: u64, inputs: Vec<RecordedTensor>, outputs: Vec<RecordedTensor>) -> PredictionRecord {
        serde_json::from_value(json!({"request_id": "r", "deployment": "d", "model": "m", "version": "1",
            "variant": "stable", "at_unix_ms": 0, "latency_us": 0, "rows": rows, "inputs": inputs, "outputs": outputs}))
        .unwrap()
    }

    fn missing_rates(profile: &Profile, record: &PredictionRecord) -> Vec<f64> {
        let mut window = Window::new(profile);
        let rows = Rows::new(profile, record, None);
        (0..record.rows).for_each(|row| rows.add_to(&mut window, profile, row));
        let scores = score(profile, &window, &Thresholds::default());
        scores.features.iter().chain(&scores.predictions).map(|score| score.missing_rate).collect()
    }

    #[test]
    fn columns_of_one_matrix_are_taken_by_position() {
        let record = record(
            2,
            vec![tensor("X", &[2, 2], json!([1.0, null, 2.0, 7.0]))],
            vec![tensor("output_label", &[2], json!([0, 1]))],
        );
        assert_eq!(missing_rates(&profile(&["a", "b"]), &record), [0.0, 0.5, 0.0]);
        assert_eq!(missing_rates(&profile(&["a", "b", "c"]), &record), [0.0, 0.5, 1.0, 0.0]);
    }

    #[test]
    fn several_inputs_are_taken_by_name() {
        let inputs = vec![tensor("b", &[2, 1], json!([1.0, 2.0])), tensor("a", &[2], json!([null, null]))];
        let record = record(2, inputs, vec![tensor("label", &[2], json!(["0", "1"]))]);
        assert_eq!(missing_rates(&profile(&["a", "b", "c"]), &record), [1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn shadows_errors_and_other_deployments_do_not_count() {
        let good = record(1, vec![tensor("X", &[1, 1], json!([1.0]))], Vec::new());
        let other = PredictionRecord { deployment: "other".into(), ..good.clone() };
        let failed = PredictionRecord { error: Some("no".into()), ..good.clone() };
        let shadow = PredictionRecord { variant: Variant::Shadow, ..good.clone() };
        let candidate = PredictionRecord { variant: Variant::Candidate, ..good.clone() };
        let batch = PredictionBatch {
            replica_id: "r".into(),
            records: vec![good, other, failed, shadow, candidate],
            ..PredictionBatch::default()
        };
        assert_eq!(eligible(&batch, "d").count(), 2);
    }
}
