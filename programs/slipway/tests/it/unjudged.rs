//! Canaries without labels or shadow copies, and the kill switch, with real models and replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Client;
use crate::platform::Platform;

/// Two steps that only requests decide.
fn unlabelled() -> Value {
    json!({"steps": [{"weight_percent": 30, "hold_s": 0.5}, {"weight_percent": 50, "hold_s": 0.5}],
        "analysis": {"interval_ms": 200, "min_requests": 150, "max_p95_latency_ratio": 50.0,
            "max_inconclusive_s": 120}})
}

/// Requests for all outputs, until told to stop.
fn traffic(client: &Client, deployment: &str) -> (Arc<AtomicBool>, tokio::task::JoinHandle<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (client, url) = (client.clone(), format!("{}/v2/models/{deployment}/infer", client.serving));
    let stopped = Arc::clone(&stop);
    let task = tokio::spawn(async move {
        let mut number = 0_u32;
        while !stopped.load(Ordering::Relaxed) {
            number += 1;
            // Forty inputs that both versions see again and again, of both classes all the time: 37 and 40
            // have no common divisor.
            let first = f64::from(number * 37 % 40) - 19.5;
            let body = json!({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2],
                "data": [first, 0.0]}]});
            client.send(reqwest::Method::POST, &url, Some(&body)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    (stop, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_labels_a_broken_version_is_rolled_back_and_a_good_one_says_what_was_not_judged() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.deploy("m", unlabelled()).await;
    let (stop, task) = traffic(&client, "m");
    for (fixture, phase, words) in [
        // As a failed request or as an answer that is not finite, whichever is proved first.
        ("nan.onnx", "rolled_back", vec!["answered with NaN or an infinity"]),
        // The right mix of classes with every answer wrong: the same inputs come to both versions.
        ("wrong.onnx", "rolled_back", vec!["same_inputs: 100.0 %"]),
        ("right-2.onnx", "promoted", vec!["every step passed; not judged", "accuracy (no labels arrived)"]),
    ] {
        let version = client.register("m", fixture).await;
        client.set_alias("m", "champion", &version).await;
        let rollout = client.wait_for_rollout("m", &version, phase).await;
        let reason = rollout["reason"].as_str().unwrap();
        assert!(words.iter().all(|word| reason.contains(word)), "{fixture}: {reason}");
        let shown = platform.slipway(&["rollouts", "show", rollout["id"].as_str().unwrap()]).text();
        assert!(words.iter().all(|word| shown.contains(word)), "{fixture}: {shown}");
    }
    stop.store(true, Ordering::Relaxed);
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_freezes_a_deployment_until_it_is_turned_off() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    client.register("m", "right-2.onnx").await;
    client.deploy("m", unlabelled()).await;
    let killed = platform.json(&["deployments", "kill", "m", "--reason", "wrong prices"]);
    let told = &killed["acknowledgement"];
    assert_eq!(
        (&told["complete"], told["followed"].as_array().map(Vec::len)),
        (&json!(true), Some(1)),
        "{killed}"
    );
    let refused = platform.slipway(&["rollouts", "start", "m", "2"]).refusal();
    assert!(refused.contains("kill switch") && refused.contains("slipway deployments revive m"), "{refused}");

    client.set_alias("m", "champion", "2").await;
    crate::platform::wait_for("the pending move", || {
        platform.json(&["deployments", "show", "m"])["last_alias_move"]["outcome"] == "pending"
    });
    let updated = platform.json(&["deployments", "update", "m", "--sticky-header", "x-user-id"]);
    assert_eq!(updated["sticky_key"]["header"], "x-user-id");
    platform.slipway(&["deployments", "revive", "m"]).success();
    client.wait_for_rollout("m", "2", "progressing").await;
}
