//! Applications that predict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::client::{Body, Client, Request};
use super::models::DEPLOYMENT;
use crate::chaos::faults::Service;
use crate::chaos::journal::Prediction;

const PAUSE_MS: u64 = 30;
/// The second feature while the inputs drift; in training it was 0.
const DRIFTED: f64 = 8.0;
/// Weight of the second feature in every version.
const WEIGHT: f64 = 0.5;
/// In each period the inputs drift for some windows of the monitor.
const PERIOD_S: u64 = 45;
const DRIFT_S: std::ops::Range<u64> = 15..30;

/// The second feature.
fn second(since_start: Duration) -> f64 {
    if DRIFT_S.contains(&(since_start.as_secs() % PERIOD_S)) { DRIFTED } else { 0.0 }
}

/// Sends requests until the load stops. The inputs do not drift once `calm` is set.
pub(super) async fn predict(client: Client, predictor: usize, calm: Arc<AtomicBool>) {
    let path = format!("/v2/models/{DEPLOYMENT}/infer");
    let started = Instant::now();
    for number in 0u64.. {
        let second = if calm.load(Ordering::Relaxed) { 0.0 } else { second(started.elapsed()) };
        // The first feature is 1, so that the score is the weight of the version, plus what the second adds.
        let inputs = json!([{"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [1.0, second]}]);
        let body = json!({"id": format!("{predictor}-{number}"), "inputs": inputs});
        // A prediction needs no server: serving keeps its tables and models.
        let (service, method) = (Service::Serving, Method::POST);
        let request = Request { service, method, path: path.clone(), body: Body::Json(body), needs: &[] };
        if let Some(answer) = client.send("predict", &request).await {
            let version = answer.body["model_version"].as_str().and_then(|version| version.parse().ok());
            let outputs = answer.body["outputs"].as_array().into_iter().flatten();
            let score = outputs
                .filter(|output| output["name"] == "score")
                .find_map(|output| output["data"][0].as_f64());
            let mut journal = client.journal().lock();
            match (version, score) {
                (Some(version), Some(score)) => journal.predictions.push(Prediction {
                    replica: answer.replica,
                    from_ms: answer.from_ms,
                    to_ms: answer.to_ms,
                    version,
                    score,
                    shift: WEIGHT * second,
                }),
                _ => journal.refused.push(format!("predict: {}: {}", answer.status, answer.body)),
            }
        }
        if !client.pause(PAUSE_MS).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_drift_in_the_middle_of_each_period() {
        let at = |seconds| second(Duration::from_secs(seconds));
        assert_eq!(
            [0, 14, 15, 29, 30, 44, 45, 60].map(at),
            [0.0, 0.0, DRIFTED, DRIFTED, 0.0, 0.0, 0.0, DRIFTED]
        );
    }
}
