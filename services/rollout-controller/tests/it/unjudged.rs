//! Without labels and shadow copies: what is judged all the same, and what the reason says was not.

use serde_json::{Value, json};

use crate::world::{Controller, World};

/// Starts version 2 without labels, and lets both versions predict these until the rollout is in that phase.
async fn rolled_out(old: &[Value], new: &[Value], phase: &str) -> (World, Controller, Value) {
    let (world, at) = World::deployed().await;
    let strategy = json!({"steps": [{"weight_percent": 50, "hold_s": 0.2}],
        "analysis": {"min_requests": 20, "interval_ms": 50, "max_inconclusive_s": 60.0}});
    let body = json!({"version": "2", "strategy": strategy});
    world.call(&at, reqwest::Method::POST, "deployments/d/rollouts", body).await;
    world.wait_for(&at, "2", "progressing").await;
    let serve = async {
        loop {
            world.replica.predicts("1", "stable", old).await;
            world.replica.predicts("2", "candidate", new).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let rollout = tokio::select! {
        () = serve => unreachable!("it does not end"),
        rollout = world.wait_for(&at, "2", phase) => rollout,
    };
    (world, at, rollout)
}

fn numbers(range: std::ops::Range<i32>, of: impl Fn(f64) -> f64) -> Vec<Value> {
    range.map(|number| json!(of(f64::from(number)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_answers_nan_is_rolled_back() {
    let nothing = vec![Value::Null; 30];
    let (_world, _at, rollout) = rolled_out(&numbers(0..30, |n| n), &nothing, "rolled_back").await;
    let reason = rollout["reason"].as_str().unwrap();
    assert!(reason.contains("non_finite: 100.0 %") && reason.contains("NaN"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_always_answers_the_same_is_rolled_back() {
    let constant = vec![json!(0.0); 30];
    let (_world, _at, rollout) = rolled_out(&numbers(0..30, |n| n), &constant, "rolled_back").await;
    let reason = rollout["reason"].as_str().unwrap();
    assert!(reason.contains("prediction_shift") && reason.contains("max_prediction_shift"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_similar_version_is_promoted_and_the_reason_says_what_was_not_judged() {
    // As where features are missing: both versions answer NaN for some rows.
    let mut old = numbers(0..40, |n| n);
    let mut new = numbers(0..40, |n| n * 0.97 + 0.5);
    old.extend(vec![Value::Null; 10]);
    new.extend(vec![Value::Null; 10]);
    let (world, _at, rollout) = rolled_out(&old, &new, "promoted").await;
    let reason = rollout["reason"].as_str().unwrap();
    let expected = "every step passed; not judged: divergence of shadow copies (no shadow copies: \
        shadow_percent is 0), accuracy (no labels arrived)";
    assert_eq!(reason, expected);
    let decisions = rollout["decisions"].as_array().unwrap();
    let passed = decisions.iter().find(|decision| decision["verdict"] == "pass").unwrap();
    assert!(passed["reason"].as_str().unwrap().contains("accuracy (no labels arrived)"), "{passed}");
    let missing: Vec<&str> = passed["evidence"]["not_judged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["clause"].as_str().unwrap())
        .collect();
    assert_eq!(missing, ["divergence", "accuracy"], "{passed}");
    assert_eq!(world.told("2").await.last().unwrap(), "promoted");
}
