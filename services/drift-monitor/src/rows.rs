//! Prediction records as rows of the profile's columns.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use slipway_api::predictions::{PredictionBatch, PredictionRecord, RecordedTensor, prediction_tensor};
use slipway_domain::drift::{ColumnProfile, Precision, Profile, Value, Window};

use crate::layout::{self, Input, Place};

/// Rows of one record at most; a record that claims more is no record of ours.
const MAX_ROWS_PER_RECORD: u64 = 1_000_000_000;

/// Records of one batch that a monitor counts: answers that clients of its deployment saw.
pub(crate) fn eligible<'batch>(
    batch: &'batch PredictionBatch,
    deployment: &'batch str,
) -> impl Iterator<Item = &'batch PredictionRecord> {
    batch.records.iter().filter(move |record| {
        record.deployment == deployment && (1..=MAX_ROWS_PER_RECORD).contains(&record.counted_rows())
    })
}

/// What a monitor knows of the records' tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema<'monitor> {
    pub(crate) profile: &'monitor Profile,
    /// The model's inputs in the order of its signature, where it is known.
    pub(crate) inputs: Option<&'monitor [Input]>,
    /// The deployment's prediction output, where it names one.
    pub(crate) prediction_output: Option<&'monitor str>,
}

/// The rows of one record, ready to be counted.
#[derive(Debug)]
pub(crate) struct Rows<'record> {
    /// Rows that the record holds.
    pub(crate) count: u64,
    features: Vec<Column<'record>>,
    predictions: Vec<Column<'record>>,
}

/// Where one column's values are: element `offset + row * width` of a tensor.
#[derive(Debug, Clone, Copy)]
struct Column<'record> {
    /// `None` where the record has no such column, or does not tell its values.
    data: Option<&'record [Json]>,
    precision: Option<Precision>,
    offset: usize,
    width: usize,
}

impl<'record> Rows<'record> {
    /// Finds the profile's columns in the record: features as [`layout::places`] has them, predictions by the
    /// output's name; the first of them is otherwise the prediction itself.
    pub(crate) fn new(
        schema: Schema<'_>,
        record: &'record PredictionRecord,
        redacted: &BTreeSet<String>,
    ) -> Self {
        let rows = record.recorded_rows();
        if record.inputs.is_empty() {
            return Self { count: 0, features: Vec::new(), predictions: Vec::new() };
        }
        let (tensors, inputs) = in_order(&record.inputs, rows, schema.inputs);
        let places = layout::places(&schema.profile.features, &inputs);
        let at = |place: Place| {
            tensors[place.tensor].map_or(ABSENT, |tensor| Column::at(tensor, place.offset, rows, redacted))
        };
        let features = places.into_iter().map(|place| place.map_or(ABSENT, at)).collect();
        let predictions = schema.profile.predictions.iter().enumerate();
        let predictions =
            predictions.map(|(index, column)| prediction(schema, index, column, record, redacted)).collect();
        Self { count: rows, features, predictions }
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

/// The model's inputs in the order of its signature, and the record's tensors for them: clients send them in
/// any order, and may leave out optional ones. As the record has them where the signature is not known.
fn in_order<'record>(
    tensors: &'record [RecordedTensor],
    rows: u64,
    signature: Option<&[Input]>,
) -> (Vec<Option<&'record RecordedTensor>>, Vec<Input>) {
    let names = |input: &Input| tensors.iter().any(|tensor| tensor.name == input.name);
    let Some(signature) = signature.filter(|signature| signature.iter().any(names)) else {
        return tensors.iter().map(|tensor| (Some(tensor), layout::of_record(tensor, rows))).unzip();
    };
    let with_tensor = |input: &Input| {
        let tensor = tensors.iter().find(|tensor| tensor.name == input.name);
        (tensor, tensor.map_or_else(|| input.clone(), |tensor| layout::of_record(tensor, rows)))
    };
    signature.iter().map(with_tensor).unzip()
}

fn prediction<'record>(
    schema: Schema<'_>,
    index: usize,
    column: &ColumnProfile,
    record: &'record PredictionRecord,
    redacted: &BTreeSet<String>,
) -> Column<'record> {
    let name = column.tensor.as_ref().unwrap_or(&column.name);
    let named = record.outputs.iter().find(|tensor| tensor.name == *name);
    let first = || prediction_tensor(&record.outputs, schema.prediction_output).filter(|_| index == 0);
    let offset = column.index.map_or(0, |index| usize::try_from(index).unwrap_or(usize::MAX));
    let at = |tensor| Column::at(tensor, offset, record.recorded_rows(), redacted);
    named.or_else(first).map_or(ABSENT, at)
}

const ABSENT: Column<'static> = Column { data: None, precision: None, offset: 0, width: 1 };

impl<'record> Column<'record> {
    fn at(tensor: &'record RecordedTensor, offset: usize, rows: u64, redacted: &BTreeSet<String>) -> Self {
        let width = layout::width(tensor, rows);
        let is_told = redacted.is_empty()
            || !(redacted.contains(&tensor.name) || redacted.contains(&format!("{}[{offset}]", tensor.name)));
        if offset >= width || tensor.data.is_empty() || !is_told {
            return ABSENT;
        }
        let precision = match tensor.datatype.as_str() {
            "FP32" => Some(Precision::Single),
            "FP16" => Some(Precision::Half),
            "BF16" => Some(Precision::BrainFloat),
            _ => None,
        };
        Self { data: Some(&tensor.data), precision, offset, width }
    }

    fn value(&self, row: usize) -> Value<'record> {
        let Some(data) = self.data else { return Value::Absent };
        let place = row.checked_mul(self.width).and_then(|start| start.checked_add(self.offset));
        match place.and_then(|place| data.get(place)) {
            Some(Json::Bool(flag)) => Value::Flag(*flag),
            Some(Json::Number(number)) => match (number.as_f64(), self.precision) {
                (Some(number), Some(precision)) => Value::Rounded(number, precision),
                (Some(number), None) => Value::Number(number),
                (None, _) => Value::Missing,
            },
            Some(Json::String(text)) => Value::Text(text),
            Some(Json::Null | Json::Array(_) | Json::Object(_)) | None => Value::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use slipway_api::predictions::Variant;
    use slipway_domain::drift::{Thresholds, score};

    use super::*;

    fn profile(features: &[&str]) -> Profile {
        let features: Vec<_> = features
            .iter()
            .map(|name| {
                json!({"name": name, "min": 0, "max": 10, "edges": [5.0], "counts": [5, 5],
                "sample": [1.0, 9.0]})
            })
            .collect();
        serde_json::from_value(json!({"schema": "slipway.profile/1", "rows": 10, "features": features,
            "predictions": [{"name": "label", "kind": "categorical", "values": ["0", "1"],
                "counts": [5, 5]}]}))
        .unwrap()
    }

    fn tensor(name: &str, shape: &[i64], data: serde_json::Value) -> RecordedTensor {
        let serde_json::Value::Array(data) = data else { panic!("a list") };
        RecordedTensor { name: name.into(), datatype: "FP32".into(), shape: shape.to_vec(), data }
    }

    fn record(rows: u64, inputs: Vec<RecordedTensor>, outputs: Vec<RecordedTensor>) -> PredictionRecord {
        serde_json::from_value(json!({"request_id": "r", "deployment": "d", "model": "m", "version": "1",
            "variant": "stable", "at_unix_ms": 0, "latency_us": 0, "rows": rows, "inputs": inputs,
                "outputs": outputs}))
        .unwrap()
    }

    /// Of each column; `None` where it is not compared.
    fn missing_rates(profile: &Profile, record: &PredictionRecord, redacted: &[&str]) -> Vec<Option<f64>> {
        let mut window = Window::new(profile);
        let redacted = redacted.iter().map(ToString::to_string).collect();
        let rows = Rows::new(Schema { profile, inputs: None, prediction_output: None }, record, &redacted);
        (0..rows.count).for_each(|row| rows.add_to(&mut window, profile, row));
        let scores = score(profile, &window, &Thresholds::default());
        let columns = scores.features.iter().chain(&scores.predictions);
        columns.map(|score| score.compared.then_some(score.missing_rate)).collect()
    }

    #[test]
    fn columns_of_one_matrix_are_taken_by_position() {
        let record = record(
            2,
            vec![tensor("X", &[2, 2], json!([1.0, null, 2.0, 7.0]))],
            vec![tensor("output_label", &[2], json!([0, 1]))],
        );
        let rates = |names: &[&str], redacted: &[&str]| missing_rates(&profile(names), &record, redacted);
        assert_eq!(rates(&["a", "b"], &[]), [Some(0.0), Some(0.5), Some(0.0)]);
        assert_eq!(rates(&["a", "b", "c"], &[]), [Some(0.0), Some(0.5), None, Some(0.0)]);
        assert_eq!(
            rates(&["a", "b"], &["X[1]"]),
            [Some(0.0), None, Some(0.0)],
            "what is redacted is not missing"
        );
        assert_eq!(rates(&["a", "b"], &["X", "output_label"]), [None, None, None]);
    }

    #[test]
    fn clients_may_send_inputs_in_any_order() {
        let profile = profile(&["a", "b"]);
        let inputs = vec![tensor("p", &[1, 1], json!([null])), tensor("q", &[1, 1], json!([2.0]))];
        let record = record(1, inputs, Vec::new());
        let signature = ["q", "p"].map(|name| Input { name: name.into(), width: Some(1) });
        let schema = Schema { profile: &profile, inputs: Some(&signature), prediction_output: None };
        let rows = Rows::new(schema, &record, &BTreeSet::new());
        assert_eq!(
            (rows.features[0].value(0), rows.features[1].value(0)),
            (Value::Rounded(2.0, Precision::Single), Value::Missing)
        );
    }

    #[test]
    fn a_sample_counts_the_rows_that_it_has() {
        let sampled = PredictionRecord {
            row_indices: Some(vec![4, 9]),
            ..record(
                20,
                vec![tensor("X", &[2, 1], json!([1.0, null]))],
                vec![tensor("label", &[2], json!([0, 1]))],
            )
        };
        assert_eq!(missing_rates(&profile(&["a"]), &sampled, &[]), [Some(0.5), Some(0.0)]);
        let empty = PredictionRecord { row_indices: Some(Vec::new()), ..record(20, Vec::new(), Vec::new()) };
        let profile = profile(&["a"]);
        let schema = Schema { profile: &profile, inputs: None, prediction_output: None };
        assert_eq!(Rows::new(schema, &empty, &BTreeSet::new()).count, 0);
    }

    #[test]
    fn several_inputs_are_taken_by_name() {
        let inputs = vec![tensor("b", &[2, 1], json!([1.0, 2.0])), tensor("a", &[2], json!([null, null]))];
        let record = record(2, inputs, vec![tensor("label", &[2], json!(["0", "1"]))]);
        let rates = missing_rates(&profile(&["a", "b", "c"]), &record, &[]);
        assert_eq!(rates, [Some(1.0), Some(0.0), None, Some(0.0)]);
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
