//! An ensemble that is rolled out before its models: it waits for them, and answers once they are there.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::client::{Client, strategy};
use crate::platform::Platform;

/// A version of `model` that passes its input on to the deployment `step`; answers with its number.
async fn register(client: &Client, model: &str, step: &str) -> String {
    let definition = json!({
        "inputs": [{"name": "input"}],
        "steps": [{"model": step, "inputs": {"input": "input"}, "outputs": {"label": "label"}}],
        "outputs": [{"name": "label"}],
    });
    let files = [("slipway-ensemble.json", definition.to_string().into_bytes())];
    let (status, answer) = client.try_register_files(model, &files).await;
    assert!(status.is_success(), "{status}: {answer}");
    answer["model_version"]["version"].as_str().unwrap().to_owned()
}

/// Waits until serving refuses requests to the ensemble and names what is missing.
async fn wait_for_refusal(client: &Client, deployment: &str, missing: &str) {
    let url = format!("{}/v2/models/{deployment}/infer", client.serving);
    let body =
        json!({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 0.0]}]});
    let mut last = (StatusCode::OK, json!(null));
    for _ in 0..400 {
        last = client.send(Method::POST, &url, Some(&body)).await;
        assert!(!last.0.is_success(), "it answers without its model: {last:?}");
        if last.0 == StatusCode::SERVICE_UNAVAILABLE && last.1["error"].as_str().unwrap().contains(missing) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("serving never said that {deployment} waits for {missing}: {last:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_may_be_rolled_out_before_its_models() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    assert_eq!(register(&client, "whole", "part").await, "1");
    let body = json!({
        "name": "whole", "model": "whole", "version": "1", "watch_alias": "champion",
        "default_strategy": {"prepare_timeout_s": 60},
    });
    client.post(&format!("{}/api/v1/deployments", client.controller), body).await;
    wait_for_refusal(&client, "whole", "part").await;
    let url = format!("{}/api/v1/rollouts?deployment=whole", client.controller);
    let waiting = client.get(&url).await;
    assert_ne!(waiting["rollouts"][0]["phase"], "promoted", "{waiting}");

    client.register("part", "right-1.onnx").await;
    client.deploy("part", strategy(1.0)).await;
    client.wait_for_rollout("whole", "1", "promoted").await;
    for (first, label) in [(1.0, 1), (-1.0, 0)] {
        assert_eq!(client.predict("whole", first, "both").await.unwrap(), ("1".to_owned(), label));
    }

    // One whose models never come is given up, and the version before it answers as ever.
    assert_eq!(register(&client, "whole", "nobody").await, "2");
    let rollout = json!({"version": "2", "strategy": {"prepare_timeout_s": 3}});
    client.post(&format!("{}/api/v1/deployments/whole/rollouts", client.controller), rollout).await;
    let failed = client.wait_for_rollout("whole", "2", "failed").await;
    assert!(failed["reason"].as_str().unwrap().contains("nobody"), "{failed}");
    assert_eq!(client.predict("whole", 1.0, "still").await.unwrap(), ("1".to_owned(), 1));
}
