//! Requests share runs only where that does not change an answer.

use serde_json::json;
use slipway_api::events::{EVENTS_STREAM, JoiningStopped};
use slipway_testkit::onnx;

use crate::serving::{Serving, cache};
use crate::world::{DEPLOYMENT, World, eventually, table};

/// Asks for many rows at the same time; whether each was answered as alone, which is 1.
async fn all_right(serving: &Serving) -> bool {
    let calls = (1..=40).map(|at| {
        let row = json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [at, at]}]});
        async move { serving.infer(&row).await.1 }
    });
    let answers = futures::future::join_all(calls).await;
    answers.iter().all(|answer| answer["outputs"][0]["data"] == json!([1.0, 1.0]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_declared_wrongly_is_found_by_an_audit_and_told() {
    let (world, cache) = (World::start().await, cache());
    let (model, settings) = (
        onnx::share_of_maximum().into(),
        bytes::Bytes::from_static(br#"{"join_requests": true, "instances": 1, "join_audit_every": 1}"#),
    );
    let files = [("model.onnx", &model, &model), ("slipway-serving.json", &settings, &settings)];
    world.put(&table(1, &world.register(DEPLOYMENT, "1", &files).await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let config =
        async || serving.get(&format!("/v2/models/{DEPLOYMENT}/config")).await.1["parameters"].clone();
    assert_eq!(config().await["requests_joined"]["string_value"], "true");
    let event = eventually("an audit stops it", || async {
        assert!(all_right(&serving).await, "a wrong answer");
        world.messages(EVENTS_STREAM).await.pop()
    })
    .await;
    let event: JoiningStopped = serde_json::from_value(event).unwrap();
    assert_eq!(
        (event.deployment.as_str(), event.version.as_str(), event.output.as_str()),
        (DEPLOYMENT, "1", "y")
    );
    assert!(event.run_rows > 1 && event.request_rows == 1 && event.alone == "1", "{event:?}");
    let parameters = config().await;
    assert_eq!(parameters["requests_joined"]["string_value"], "false");
    let reason = parameters["requests_joined_reason"]["string_value"].as_str().unwrap();
    assert!(reason.starts_with("stopped by an audit: output 'y'"), "{reason}");
    let metrics = serving.http.get(format!("{}/metrics", serving.metrics)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let labels = format!("deployment=\"{DEPLOYMENT}\",version=\"1\"");
    assert!(
        metrics.contains(&format!("slipway_serving_join_audits_total{{{labels},outcome=\"differed\"}} 1"))
    );
    assert!(metrics.contains(&format!("slipway_serving_requests_joined{{{labels}}} 0")), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_rows_interact_is_not_joined_and_the_node_is_named() {
    let (world, cache) = (World::start().await, cache());
    let model = onnx::share_of_maximum().into();
    let target = world.register(DEPLOYMENT, "1", &[("model.onnx", &model, &model)]).await;
    world.put(&table(1, &target)).await;
    let serving = Serving::ready(&world, &cache).await;
    assert!(all_right(&serving).await);
    let (_, config) = serving.get(&format!("/v2/models/{DEPLOYMENT}/config")).await;
    let reason = config["parameters"]["requests_joined_reason"]["string_value"].as_str().unwrap();
    assert!(reason.contains("(ReduceMax): it takes one value from all rows of the run"), "{reason}");
    assert_eq!(config["parameters"]["max_joined_rows"]["string_value"], "1");
}
