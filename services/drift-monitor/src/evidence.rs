//! What a drift event carries to show for itself, in the bounds of a NATS message.

use serde::Deserialize;
use serde_json::{Value, json};
use slipway_api::rest::monitors::{ColumnScore, DriftEvidence};
use slipway_domain::drift::{FeatureScore, WindowScores};

/// Columns of an event take so much at most; a NATS message holds 1 MiB.
const MAX_COLUMNS_BYTES: usize = 512 * 1024;

/// The scores of the window that decided. Of a table too wide for an event the columns that moved most are
/// listed; the window itself keeps all.
pub(crate) fn of(scores: &WindowScores) -> Value {
    let mut room = MAX_COLUMNS_BYTES;
    let predictions = most_moved(&scores.predictions, &mut room);
    let features = most_moved(&scores.features, &mut room);
    json!({
        "rows": scores.rows,
        "conclusive": scores.conclusive,
        "drifted": scores.drifted,
        "share_drifted": scores.share_drifted,
        "predictions_drifted": scores.predictions_drifted,
        "rows_repeated": scores.rows_repeated,
        "distinct_rows": scores.distinct_rows,
        "reasons": scores.reasons,
        "features_left_out": scores.features.len() - features.len(),
        "features": features,
        "predictions": predictions,
    })
}

/// The evidence of an event as it is stored; events of earlier versions have fewer fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StoredEvidence {
    rows: u64,
    conclusive: bool,
    drifted: bool,
    share_drifted: f64,
    predictions_drifted: bool,
    rows_repeated: bool,
    distinct_rows: u64,
    reasons: Vec<String>,
    features_left_out: u64,
    features: Vec<FeatureScore>,
    predictions: Vec<FeatureScore>,
}

impl From<StoredEvidence> for DriftEvidence {
    fn from(stored: StoredEvidence) -> Self {
        let columns = |scores: Vec<FeatureScore>| scores.into_iter().map(ColumnScore::from).collect();
        Self {
            rows: stored.rows,
            conclusive: stored.conclusive,
            drifted: stored.drifted,
            share_drifted: stored.share_drifted,
            predictions_drifted: stored.predictions_drifted,
            rows_repeated: stored.rows_repeated,
            distinct_rows: stored.distinct_rows,
            reasons: stored.reasons,
            features_left_out: stored.features_left_out,
            features: columns(stored.features),
            predictions: columns(stored.predictions),
        }
    }
}

/// Parts that an event names; all of them are in the scores of the window.
const MAX_PARTS: usize = 100;

/// What drifted, the first of it.
pub(crate) fn named(parts: &[String]) -> Vec<String> {
    parts.iter().take(MAX_PARTS).cloned().collect()
}

/// The worst first, as many as there is room for.
fn most_moved(columns: &[FeatureScore], room: &mut usize) -> Vec<Value> {
    let mut columns: Vec<&FeatureScore> = columns.iter().collect();
    columns
        .sort_by(|left, right| right.drifted.cmp(&left.drifted).then_with(|| right.psi.total_cmp(&left.psi)));
    let mut told = Vec::new();
    for column in columns {
        let value = json!(column);
        let Some(left) = room.checked_sub(value.to_string().len()) else { break };
        *room = left;
        told.push(value);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(index: usize, drifted: bool) -> FeatureScore {
        FeatureScore {
            name: format!("column {index}"),
            psi: index as f64,
            ks: Some(0.1),
            ks_p_value: Some(0.5),
            drifted,
            ..FeatureScore::default()
        }
    }

    #[test]
    fn a_table_of_ten_thousand_columns_fits_an_event_and_what_moved_is_told() {
        let features = (0..10_000).map(|index| column(index, index == 7)).collect();
        let scores =
            WindowScores { features, predictions: vec![column(1, false)], ..WindowScores::default() };
        let evidence = of(&scores);
        assert!(evidence.to_string().len() < 600 * 1024);
        assert_eq!(evidence["features"][0]["name"], "column 7");
        assert_eq!(evidence["features"][1]["name"], "column 9999");
        let told = evidence["features"].as_array().unwrap().len();
        assert_eq!(evidence["features_left_out"], 10_000 - told);
        assert_eq!(evidence["predictions"][0]["name"], "column 1");
        let stored: StoredEvidence = serde_json::from_value(evidence.clone()).unwrap();
        assert_eq!(json!(DriftEvidence::from(stored)), evidence, "clients receive all of it");
    }
}
