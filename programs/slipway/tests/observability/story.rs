//! What a platform does in a minute, so that its metrics have values: training, rollouts that are promoted,
//! rolled back and in progress, traffic with labels, drift, and the job that it starts.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Traffic, fixture_bytes, strategy};

pub(crate) const MODEL: &str = "churn";
const MONITOR: &str = "churn-inputs";
/// Makes one checkpoint, and runs until it is cancelled.
const TRAINING: &str = "cd $SLIPWAY_CHECKPOINT_DIR; mkdir 1.tmp; echo weights >1.tmp/weights; mv 1.tmp 1; \
                        while :; do sleep 0.1; done";

/// What goes on after the story.
pub(crate) struct Told {
    pub(crate) traffic: Traffic,
}

pub(crate) async fn tell(client: &Client) -> Told {
    let run = profiled_run(client).await;
    register_of_run(client, &run).await;
    client.deploy(MODEL, strategy(0.5)).await;
    let traffic = client.traffic(MODEL);
    watch(client).await;
    for (name, command) in [("succeeds", "true"), ("fails", "exit 42")] {
        let job = submit(client, name, json!(["sh", "-c", command]), json!({})).await;
        wait_for(client, "launcher", &format!("jobs/{job}"), |job| job["finished_at"].is_string()).await;
    }
    submit(client, "trains", json!(["sh", "-c", TRAINING]), json!({"checkpoint": {"dir": "checkpoints"}}))
        .await;
    roll_out(client, "right-2.onnx", "promoted").await;
    roll_out(client, "wrong.onnx", "rolled_back").await;
    deploy_without_requests(client).await;
    // Drift was detected in the meantime, and the job that it submits has ended.
    wait_for(client, "monitor", &format!("monitors/{MONITOR}"), |monitor| monitor["state"] == "drifted")
        .await;
    let actions = format!("monitors/{MONITOR}/actions");
    wait_for(client, "monitor", &actions, |found| found["actions"][0]["status"] == "done").await;
    stay_in_a_rollout(client).await;
    Told { traffic }
}

/// A run with the profile of inputs that are far from those that the traffic has.
async fn profiled_run(client: &Client) -> String {
    let run = client.mlflow("runs/create", json!({"experiment_id": "0", "start_time": 1})).await;
    let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let sample: Vec<f64> = (0..100).map(f64::from).collect();
    let feature = |name: &str| {
        json!({"name": name, "kind": "numeric", "missing_rate": 0.0, "min": 0.0, "max": 99.0,
            "edges": [25.0, 50.0, 75.0], "counts": [25, 25, 25, 25], "sample": sample})
    };
    let profile = json!({"schema": "slipway.profile/1", "rows": 100,
        "features": [feature("first"), feature("second")],
        "predictions": [{"name": "label", "kind": "categorical", "values": ["0", "1"], "counts": [95, 5]}]});
    let path = format!("0/{run}/artifacts/slipway/profile.json");
    assert!(client.put_artifact(&path, profile.to_string().into_bytes()).await.is_success());
    run
}

async fn register_of_run(client: &Client, run: &str) {
    let id = client.log_model(&fixture_bytes("right-1.onnx")).await;
    client.mlflow("registered-models/create", json!({"name": MODEL})).await;
    let version = json!({"name": MODEL, "source": format!("models:/{id}"), "model_id": id, "run_id": run});
    client.mlflow("model-versions/create", version).await;
}

async fn watch(client: &Client) {
    let retrain = json!({"name": "retrain", "command": ["true"]});
    let monitor = json!({
        "name": MONITOR, "deployment": MODEL, "model": MODEL, "baseline_version": "1",
        "window": {"rows": 50}, "consecutive_windows": 1,
        "on_drift": [{"action": "submit-job", "job": retrain}],
    });
    client.post(&format!("{}/api/v1/monitors", client.monitor), monitor).await;
}

pub(crate) async fn submit(client: &Client, name: &str, command: Value, further: Value) -> String {
    let mut job = json!({"name": name, "command": command});
    job.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let job = client.post(&format!("{}/api/v1/jobs", client.launcher), job).await;
    job["id"].as_str().unwrap().to_owned()
}

async fn roll_out(client: &Client, fixture: &str, phase: &str) {
    let version = client.register(MODEL, fixture).await;
    client.set_alias(MODEL, "champion", &version).await;
    client.wait_for_rollout(MODEL, &version, phase).await;
}

async fn deploy_without_requests(client: &Client) {
    let body = json!({"name": "quiet", "model": MODEL, "version": "1", "default_strategy": strategy(0.5)});
    client.post(&format!("{}/api/v1/deployments", client.controller), body).await;
    client.wait_for_rollout("quiet", "1", "promoted").await;
}

/// The next version has a part of the traffic until the test ends.
async fn stay_in_a_rollout(client: &Client) {
    let version = client.register(MODEL, "right-3.onnx").await;
    let url = format!("{}/api/v1/deployments/{MODEL}/rollouts", client.controller);
    client.post(&url, json!({"version": version, "strategy": strategy(3_000.0)})).await;
    let rollouts = format!("rollouts?deployment={MODEL}");
    wait_for(client, "controller", &rollouts, |found| found["rollouts"][0]["phase"] == "progressing").await;
}

/// Waits until a document of a service is as wanted.
async fn wait_for(client: &Client, service: &str, path: &str, wanted: impl Fn(&Value) -> bool) {
    let base = match service {
        "launcher" => &client.launcher,
        "monitor" => &client.monitor,
        _ => &client.controller,
    };
    let url = format!("{base}/api/v1/{path}");
    let mut last = Value::Null;
    for _ in 0..600 {
        let (_, found) = client.send(Method::GET, &url, None).await;
        if wanted(&found) {
            return;
        }
        last = found;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited 60 s for {url} in vain: {last}");
}
