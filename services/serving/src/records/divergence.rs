//! How a shadow's answer differs from the one that the client got.

use slipway_api::predictions::{Divergence, RecordedTensor, prediction_tensor};

/// Numbers closer than this, relative to their size, count as the same: two builds of one model differ by
/// that much.
const RELATIVE_TOLERANCE: f64 = 1e-5;

/// Compares two answers to the same `rows`.
pub(crate) fn between(
    answered: &[RecordedTensor],
    shadow: &[RecordedTensor],
    rows: u64,
    prediction_output: Option<&str>,
) -> Divergence {
    let row_count = usize::try_from(rows).unwrap_or(0);
    let left = prediction_tensor(answered, prediction_output)
        .map_or(Vec::new(), |tensor| predictions(tensor, row_count));
    let right = prediction_tensor(shadow, prediction_output)
        .map_or(Vec::new(), |tensor| predictions(tensor, row_count));
    // A row that only one of them answers differs, too.
    let differing =
        (0..row_count).filter(|row| !same(left.get(*row).copied(), right.get(*row).copied())).count();
    Divergence {
        compared_rows: rows,
        differing_rows: differing as u64,
        max_abs_difference: answered
            .iter()
            .filter_map(|tensor| Some((tensor, shadow.iter().find(|other| other.name == tensor.name)?)))
            .map(|(tensor, other)| largest_difference(tensor, other))
            .fold(0.0, f64::max)
            // An infinite difference of finite numbers has no place in JSON.
            .min(f64::MAX),
    }
}

fn predictions(tensor: &RecordedTensor, rows: usize) -> Vec<&serde_json::Value> {
    let width = (tensor.data.len() / rows.max(1)).max(1);
    tensor.data.iter().step_by(width).take(rows).collect()
}

fn same(left: Option<&serde_json::Value>, right: Option<&serde_json::Value>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => match (left.as_f64(), right.as_f64()) {
            (Some(left), Some(right)) => {
                (left - right).abs() <= RELATIVE_TOLERANCE * left.abs().max(right.abs()).max(1.0)
            }
            _ => left == right,
        },
        (left, right) => left.is_none() && right.is_none(),
    }
}

fn largest_difference(left: &RecordedTensor, right: &RecordedTensor) -> f64 {
    left.data
        .iter()
        .zip(&right.data)
        .filter_map(|(left, right)| Some((left.as_f64()? - right.as_f64()?).abs()))
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(labels: [u64; 3], scores: [f64; 3]) -> Vec<RecordedTensor> {
        let tensor = |name: &str, datatype: &str, data: Vec<serde_json::Value>| RecordedTensor {
            name: name.into(),
            datatype: datatype.into(),
            shape: vec![3],
            data,
        };
        vec![
            tensor("score", "FP32", scores.map(|score| json!(score)).to_vec()),
            tensor("label", "INT64", labels.map(|label| json!(label)).to_vec()),
        ]
    }

    #[test]
    fn labels_decide_unless_another_output_is_named() {
        let (left, right) = (answer([0, 1, 1], [0.1, 0.9, 0.8]), answer([0, 1, 0], [0.1, 0.7, 0.4]));
        let by_label = between(&left, &right, 3, None);
        assert_eq!((by_label.compared_rows, by_label.differing_rows), (3, 1));
        assert!((by_label.max_abs_difference - 1.0).abs() < 1e-9);
        assert_eq!(between(&left, &right, 3, Some("score")).differing_rows, 2);
        assert_eq!(between(&left, &left, 3, None).differing_rows, 0);
        assert_eq!(between(&left, &[], 3, None).differing_rows, 3);
    }
}
