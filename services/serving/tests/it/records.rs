//! Prediction records, shadows and labels, with NATS there and away.

use serde_json::json;
use slipway_api::predictions::{LABELS_STREAM, PredictionRecord, Variant};
use slipway_api::traffic::{Shadow, TrafficTable};

use crate::serving::{Serving, answer, cache, point};
use crate::world::{DEPLOYMENT, World, table};

fn variant(records: &[PredictionRecord], variant: Variant) -> Vec<&PredictionRecord> {
    records.iter().filter(|record| record.variant == variant).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_tell_the_request_and_how_the_shadow_differs() {
    let (world, cache) = (World::start().await, cache());
    let (stable, shadow) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    let shadows = vec![Shadow { target: shadow, sample_percent: 100 }];
    world.put(&TrafficTable { shadows, ..table(1, &stable) }).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    let body = json!({"id": "r-1",
        "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [0.1, null, 5, 5]}]});
    assert_eq!(serving.infer(&body).await.0, 200);
    let large = json!({"id": "large",
        "inputs": [{"name": "x", "shape": [50_000, 2], "datatype": "FP32", "data": vec![0; 100_000]}]});
    assert_eq!(serving.infer(&large).await.0, 200);
    let records = world.records("four records", |records| records.len() == 4).await;
    let answered = variant(&records, Variant::Stable);
    assert_eq!(
        (answered[0].request_id.as_str(), answered[0].version.as_str(), answered[0].rows),
        ("r-1", "1", 2)
    );
    assert_eq!(answered[0].inputs[0].data, vec![json!(0.1), json!(null), json!(5.0), json!(5.0)]);
    assert_eq!(answered[0].outputs[1].data, vec![json!(0), json!(1)]);
    // Of what is too large for a message, a sample of rows.
    let large = answered[1];
    assert_eq!(
        (large.request_id.as_str(), large.rows, large.recorded_rows() < 50_000),
        ("large", 50_000, true)
    );
    assert!(large.recorded_rows() > 1_000, "{}", large.recorded_rows());
    assert_eq!(large.inputs[0].data.len() as u64, large.recorded_rows() * 2);
    assert_eq!(large.predictions(None).len() as u64, large.recorded_rows());
    let copied = variant(&records, Variant::Shadow);
    let copied = copied.iter().find(|record| record.request_id == "r-1").unwrap();
    let divergence = copied.divergence.unwrap();
    assert_eq!((copied.version.as_str(), copied.shadow_of.as_deref()), ("2", Some("1")));
    // NaN is not above zero for either; 14 and 16 are.
    assert_eq!(
        (divergence.compared_rows, divergence.differing_rows, divergence.max_abs_difference),
        (2, 0, 2.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_accepted_once_they_are_stored() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let path = format!("/v1/deployments/{DEPLOYMENT}/labels");
    let body = json!({"labels": [{"request_id": "r-1", "label": 1}, {"request_id": "r-2", "label": [1, 0]}]});
    let (status, accepted) = serving.post(&path, &body).await;
    assert_eq!((status.as_u16(), accepted), (202, json!({"accepted": 2})));
    // Sent again after a lost answer: stored once.
    serving.post(&path, &body).await;
    let mut stored = world.messages(LABELS_STREAM).await;
    stored.sort_by_key(|label| label["request_id"].to_string());
    assert_eq!(stored.len(), 2);
    assert_eq!((&stored[0]["labels"], &stored[1]["labels"]), (&json!([1]), &json!([1, 0])));
    let many: Vec<_> = (0..10_000).map(|at| json!({"request_id": format!("m-{at}"), "label": at})).collect();
    assert_eq!(serving.post(&path, &json!({"labels": many})).await.0, 202);
    assert_eq!(world.messages(LABELS_STREAM).await.len(), 10_002);

    let wrong = async |label: serde_json::Value| {
        let (status, problem) = serving.post(&path, &json!({"labels": [label]})).await;
        assert_eq!(status, 400, "{problem}");
        problem["field"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(wrong(json!({"request_id": "", "label": 1})).await, "labels[0].request_id");
    assert_eq!(wrong(json!({"request_id": "r", "label": {}})).await, "labels[0].label");
    assert_eq!(serving.post("/v1/deployments/other/labels", &body).await.0, 404);
    world.nats.kill().await;
    let (status, problem) = serving.post(&path, &body).await;
    assert_eq!(status, 503, "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_go_on_without_nats_and_their_records_follow() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&table(1, &first)).await;
    let mut serving = Serving::ready(&world, &cache).await;
    serving.predict([0.0, 0.0]).await;
    world.nats.kill().await;
    for at in 0..50 {
        let request = serving.http.post(serving.url(&format!("/v2/models/{DEPLOYMENT}/infer")));
        let request = request.header("x-request-id", format!("away-{at}")).json(&point([0.0, 0.0]));
        let (status, _) =
            tokio::time::timeout(std::time::Duration::from_secs(2), answer(request)).await.unwrap();
        assert_eq!(status, 200);
    }
    world.nats.start_again().await;
    let records = world.records("the records of the outage", |records| records.len() >= 51).await;
    let mut ids: Vec<&str> = records.iter().map(|record| record.request_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), records.len()), (51, 51), "none lost, none twice");
    world.put(&table(2, &second)).await;
    world.routed(2).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "2");

    // What was answered just before the end is published before the end.
    assert_eq!(serving.terminate(), Some(0));
    let records = world.records("the last record", |records| records.len() >= 52).await;
    assert_eq!(records.last().unwrap().version, "2");
}
