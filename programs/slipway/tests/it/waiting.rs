//! `deployments create` and `rollouts start` wait, and their exit codes tell a script how it ended.

use serde_json::{Value, json};

use crate::client::Client;
use crate::platform::{Platform, wait_for};

/// Registers an ensemble whose only step is a deployment that does not exist: no replica ever loads it.
async fn register_unloadable(client: &Client, model: &str) {
    let definition = json!({
        "inputs": [{"name": "input"}],
        "steps": [{"model": "missing", "inputs": {"input": "input"}, "outputs": {"label": "label"}}],
        "outputs": [{"name": "label"}],
    });
    let files = [("slipway-ensemble.json", definition.to_string().into_bytes())];
    let (status, answer) = client.try_register_files(model, &files).await;
    assert!(status.is_success(), "{status}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_created_when_its_first_version_answers() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    client.register("m", "right-1.onnx").await;
    let create = ["deployments", "create", "m", "--model", "m", "--version", "1"];
    let created = platform.slipway(&create);
    assert!(created.text().contains("promoted"), "{}", created.text());
    let created = created.success();
    assert!(String::from_utf8_lossy(&created.stdout).starts_with("name               m\n"));
    // No waiting: it answers.
    let rows = platform.slipway(&["predict", "m", "[[1, 0], [-1, 0.5]]"]).success();
    assert_eq!(String::from_utf8_lossy(&rows.stdout), "version 1\nlabel  score\n1      1.0\n0      -0.75\n");
    assert_eq!(platform.json(&["predict", "m", "[1, 0]"])["outputs"][0]["data"], json!([1]));
    assert!(platform.slipway(&["predict", "m", "[[1, 0], [1]]"]).refusal().contains("differ in length"));
    assert!(platform.slipway(&["predict", "m", "[[1, 0]"]).refusal().contains("not valid JSON"));
    assert!(platform.slipway(&create).refusal().contains("exists already"));

    register_unloadable(&client, "broken").await;
    let soon = platform.file("soon.json", &json!({"prepare_timeout_s": 1}));
    let create = |name: &'static str| ["deployments", "create", name, "--model", "broken", "--version", "1"];
    let failed = platform.slipway(&[&create("failing")[..], &["--strategy", &soon]].concat());
    assert_eq!(failed.code(), Some(4), "{}", failed.text());
    assert!(failed.refusal().contains("deployment failing was created, but version 1 does not answer"));
    let late = platform.slipway(&[&create("late")[..], &["--timeout", "1"]].concat());
    assert_eq!(late.code(), Some(7), "{}", late.text());
    let unwaited = platform.json(&[&create("unwaited")[..], &["--no-wait"]].concat());
    assert_eq!(unwaited["stable_version"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_ends_with_an_exit_code() {
    let platform = Platform::start(&[]);
    let client = Client::new(&platform);
    for fixture in ["right-1.onnx", "right-2.onnx", "right-3.onnx"] {
        client.register("m", fixture).await;
    }
    platform.slipway(&["deployments", "create", "m", "--model", "m", "--version", "1"]).success();
    let start = |version: &'static str, strategy: Value, waits: &[&str]| {
        let file = platform.file("strategy.json", &strategy);
        let arguments = ["rollouts", "start", "m", version, "--strategy", file.as_str()];
        platform.slipway(&[&arguments[..], waits].concat())
    };
    let watched = start("2", json!({"steps": []}), &["--watch", "--json"]);
    assert_eq!(watched.code(), Some(0), "{}", watched.text());
    let lines: Vec<Value> = watched.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["phase"], "promoted");

    // Without traffic nothing can be judged: the rollout pauses, and a person decides.
    let unjudged =
        json!({"steps": [{"weight_percent": 10, "hold_s": 0}], "analysis": {"max_inconclusive_s": 0.5}});
    let paused = start("3", unjudged, &["--wait"]);
    assert_eq!(paused.code(), Some(5), "{}", paused.text());
    let text = paused.text();
    assert!(
        text.contains("phase       paused") && text.contains("waits for   `slipway rollouts resume"),
        "{text}"
    );
    let active =
        platform.json(&["deployments", "show", "m"])["active_rollout_id"].as_str().unwrap().to_owned();
    platform.slipway(&["rollouts", "abort", &active]).success();
    wait_for("the end", || platform.json(&["rollouts", "show", &active])["phase"] == "aborted");

    let waiting = json!({"steps": [{"weight_percent": 10, "hold_s": 600}]});
    let late = start("3", waiting, &["--wait", "--timeout", "1"]);
    assert_eq!(late.code(), Some(7), "{}", late.text());
    assert!(late.text().contains("did not end within 1 s; it continues"), "{}", late.text());
    assert_eq!(start("99", json!({}), &["--wait"]).code(), Some(1));
}
