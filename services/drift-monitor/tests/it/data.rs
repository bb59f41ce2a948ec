//! Rows of a table of three columns, and the profile of its training part.

use serde_json::{Value, json};
use slipway_api::predictions::{PredictionRecord, RecordedTensor, Variant};

pub(crate) const DEPLOYMENT: &str = "cancer";
/// Its identity, which records carry.
pub(crate) const DEPLOYMENT_ID: &str = "id-of-cancer";
pub(crate) const MODEL: &str = "cancer-model";
pub(crate) const FEATURES: usize = 3;
/// Far enough from training that a window of any size tells.
pub(crate) const SHIFT: f64 = 3.0;

/// A small generator, so that every run of a test sees the same rows.
#[derive(Debug)]
pub(crate) struct Rows {
    state: u64,
    /// Added to every value of the first column.
    pub(crate) shift: f64,
}

impl Rows {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1), shift: 0.0 }
    }

    /// Rows whose first column has moved.
    pub(crate) const fn shifted(seed: u64) -> Self {
        Self { shift: SHIFT, ..Self::new(seed) }
    }

    fn uniform(&mut self) -> f64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: a sum of twelve uniform values.
    fn row(&mut self) -> [f64; FEATURES] {
        let mut row = [0.0; FEATURES];
        for value in &mut row {
            *value = (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
        }
        row[0] += self.shift;
        row
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<[f64; FEATURES]> {
        (0..count).map(|_| self.row()).collect()
    }
}

/// The stand-in for the model: what it answers to a row.
fn label(row: &[f64; FEATURES]) -> i64 {
    i64::from(row[1] > 0.0)
}

/// A profile as the training script logs it.
pub(crate) fn profile(rows: &[[f64; FEATURES]]) -> Value {
    let features: Vec<Value> = (0..FEATURES)
        .map(|column| {
            let mut values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
            values.sort_by(f64::total_cmp);
            let edges: Vec<f64> = (1..10).map(|decile| values[values.len() * decile / 10]).collect();
            let mut counts = vec![0_u64; edges.len() + 1];
            values.iter().for_each(|value| counts[edges.partition_point(|edge| edge <= value)] += 1);
            json!({"name": format!("column {column}"), "missing_rate": 0.0, "min": values.first(),
                "max": values.last(), "edges": edges, "counts": counts, "sample": values})
        })
        .collect();
    let positive = rows.iter().filter(|row| label(row) == 1).count();
    json!({"schema": "slipway.profile/1", "rows": rows.len(), "features": features,
        "predictions": [{"name": "label", "kind": "categorical", "values": ["0", "1"],
            "counts": [rows.len() - positive, positive]}]})
}

/// The profile of the rows that every test's model was trained on.
pub(crate) fn trained() -> Value {
    profile(&Rows::new(1).take(500))
}

/// An answer to one request of these rows.
pub(crate) fn record(rows: &[[f64; FEATURES]]) -> PredictionRecord {
    let count = i64::try_from(rows.len()).unwrap();
    let features = rows.iter().flatten().map(|value| json!(*value as f32)).collect();
    let labels = rows.iter().map(|row| json!(label(row))).collect();
    PredictionRecord {
        request_id: "request".into(),
        deployment: DEPLOYMENT.into(),
        model: MODEL.into(),
        version: "1".into(),
        variant: Variant::Stable,
        at_unix_ms: slipway_runtime::clock::now_unix_ms(),
        latency_us: 100,
        rows: rows.len() as u64,
        row_indices: None,
        error: None,
        inputs: vec![RecordedTensor {
            name: "X".into(),
            datatype: "FP32".into(),
            shape: vec![count, 3],
            data: features,
        }],
        outputs: vec![RecordedTensor {
            name: "output_label".into(),
            datatype: "INT64".into(),
            shape: vec![count],
            data: labels,
        }],
        non_finite_outputs: 0,
        sample_percent: None,
        shadow_of: None,
        divergence: None,
    }
}
