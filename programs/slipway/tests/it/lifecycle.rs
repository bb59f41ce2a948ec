//! Up, status, down, up again, and up after a crash of everything.

use serde_json::json;

use crate::client::{Client, strategy};
use crate::platform::Platform;

#[test]
fn up_says_where_everything_is_and_down_leaves_nothing_running() {
    let platform = Platform::start(&[]);
    let endpoints = platform.endpoints();
    for name in [
        "registry",
        "launcher",
        "serving_http",
        "serving_grpc",
        "serving_metrics",
        "drift_monitor",
        "rollout_controller",
        "nats",
        "s3",
        "postgres",
    ] {
        assert!(
            endpoints[name].as_str().is_some_and(|address| address.contains("://")),
            "{name}: {endpoints}"
        );
    }
    let status = platform.json(&["status"]);
    assert_eq!(status["ready"], true, "{status}");

    let refusal = platform.slipway(&["up", "--ports", "auto", "--detach"]).refusal();
    assert!(refusal.contains("already"), "{refusal}");

    let pid = platform.pid("registry");
    platform.slipway(&["down"]).success();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(platform.slipway(&["status"]).refusal().contains("slipway up"));
    platform.slipway(&["down"]).success();

    platform.up(&[]);
    assert_eq!(platform.endpoints()["registry"], endpoints["registry"], "ports change between starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_of_everything_what_was_acknowledged_is_there() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    let version = client.register("kept", "right-1.onnx").await;
    client.deploy("kept", strategy(1.0)).await;
    let run = client
        .post(
            &format!("{}/api/2.0/mlflow/runs/create", client.registry),
            json!({"experiment_id": "0", "start_time": 1}),
        )
        .await;
    let run_id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let metric = json!({"run_id": run_id, "key": "loss", "value": 0.25, "timestamp": 1, "step": 3});
    client.post(&format!("{}/api/2.0/mlflow/runs/log-metric", client.registry), metric).await;

    platform.crash_everything();
    platform.up(&[]);
    let client = Client::new(&platform);
    let run = client.get(&format!("{}/api/2.0/mlflow/runs/get?run_id={run_id}", client.registry)).await;
    assert_eq!(run["run"]["data"]["metrics"][0]["value"], 0.25);
    let models = platform.json(&["models", "versions", "kept"]);
    assert_eq!(models["versions"][0]["version"], version.as_str());
    let deployment = platform.json(&["deployments", "show", "kept"]);
    assert_eq!(deployment["stable_version"], "1");
    let (answered, label) = client.predict("kept", 1.0, "after").await.unwrap();
    assert_eq!((answered.as_str(), label), ("1", 1));
}
