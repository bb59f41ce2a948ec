//! Bad input at every door: a clear answer that names the field, and nothing half-made.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, strategy};
use crate::platform::Platform;

async fn refused(client: &Client, url: &str, body: Value, status: StatusCode, words: &[&str]) {
    let (answered, answer) = client.send(Method::POST, url, Some(&body)).await;
    let text = answer.to_string();
    assert_eq!(answered, status, "{url}: {text}");
    for word in words {
        assert!(text.contains(word), "{url}: `{word}` is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_says_what_is_wrong() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", strategy(1.0)).await;

    // The registry: what is no ONNX model, and nothing half-made of it.
    let (status, answer) = client.try_register("m", b"this is no model at all").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer.to_string().contains("model.onnx"), "{answer}");
    let versions = platform.json(&["models", "versions", "m"]);
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1, "{versions}");

    // Serving: unknown model, wrong shape, wrong type, unknown input.
    let infer = |deployment: &str| format!("{}/v2/models/{deployment}/infer", client.serving);
    let input = |name: &str, datatype: &str, shape: Value, data: Value| {
        json!({"inputs": [{"name": name,
            "datatype": datatype, "shape": shape, "data": data}]})
    };
    let good = input("input", "FP32", json!([1, 2]), json!([1.0, 2.0]));
    refused(&client, &infer("nobody"), good, StatusCode::NOT_FOUND, &["nobody"]).await;
    let shape = input("input", "FP32", json!([1, 3]), json!([1.0, 2.0, 3.0]));
    refused(&client, &infer("m"), shape, StatusCode::BAD_REQUEST, &["input", "2"]).await;
    let kind = input("input", "INT64", json!([1, 2]), json!([1, 2]));
    refused(&client, &infer("m"), kind, StatusCode::BAD_REQUEST, &["input", "FP32"]).await;
    let unknown = input("features", "FP32", json!([1, 2]), json!([1.0, 2.0]));
    refused(&client, &infer("m"), unknown, StatusCode::BAD_REQUEST, &["features"]).await;

    // The rollout controller: a model, a version and a strategy that do not exist or make no sense.
    let deployments = format!("{}/api/v1/deployments", client.controller);
    let body = json!({"name": "x", "model": "nobody", "version": "1"});
    refused(&client, &deployments, body, StatusCode::NOT_FOUND, &["nobody"]).await;
    let rollouts = format!("{}/api/v1/deployments/m/rollouts", client.controller);
    refused(&client, &rollouts, json!({"version": "99"}), StatusCode::NOT_FOUND, &["99"]).await;
    let steps = json!({"version": "1", "strategy": {"steps": [{"weight_percent": 130, "hold_s": 1}]}});
    refused(&client, &rollouts, steps, StatusCode::BAD_REQUEST, &["weight_percent"]).await;

    // The launcher: no command, a file outside its folder.
    let jobs = format!("{}/api/v1/jobs", client.launcher);
    refused(&client, &jobs, json!({"name": "j", "command": []}), StatusCode::BAD_REQUEST, &["command"]).await;
    let outside = json!({"name": "j", "command": ["true"], "files": {"../x": "y"}});
    refused(&client, &jobs, outside, StatusCode::BAD_REQUEST, &["../x"]).await;

    // The drift monitor: a window of nothing.
    let monitors = format!("{}/api/v1/monitors", client.monitor);
    let window = json!({"name": "w", "deployment": "m", "model": "m", "window": {"rows": 0, "max_s": 1}});
    refused(&client, &monitors, window, StatusCode::BAD_REQUEST, &["window"]).await;

    // After all of this the platform answers as before.
    assert_eq!(client.predict("m", 1.0, "still").await.unwrap(), ("1".to_owned(), 1));
    assert_eq!(platform.json(&["status"])["ready"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_command_does_not_exist_fails_with_its_name() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    let body = json!({"name": "j", "command": ["/no/such/program"]});
    let job = client.post(&format!("{}/api/v1/jobs", client.launcher), body).await;
    let id = job["id"].as_str().unwrap();
    for _ in 0..400 {
        let job = platform.json(&["jobs", "show", id]);
        if job["status"] == "failed" {
            assert!(job["reason"].as_str().unwrap().contains("/no/such/program"), "{job}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the job did not fail");
}
