//! What the registry tells is what docs/events/asyncapi.json says.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::world::{MODEL, World};

/// A tour through most of what can happen; `World::events` holds each event to its schema.
#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_known_and_fits_its_schema() {
    let world = World::begin().await;
    let made = world.post("experiments/create", json!({"name": "e"})).await;
    let experiment = made["experiment_id"].as_str().unwrap().to_owned();
    let tag = json!({"experiment_id": experiment, "key": "k", "value": "v"});
    world.post("experiments/set-experiment-tag", tag).await;
    world.post("experiments/update", json!({"experiment_id": experiment, "new_name": "f"})).await;
    let run = world.run().await;
    world.post("runs/set-tag", json!({"run_id": run, "key": "k", "value": "v"})).await;
    let batch = json!({"run_id": run, "metrics": [{"key": "a", "value": 1, "timestamp": 1}],
        "params": [{"key": "p", "value": "1"}]});
    world.post("runs/log-batch", batch).await;
    let dataset = json!({"name": "d", "digest": "1", "source_type": "local", "source": "{}"});
    world
        .post("runs/log-inputs", json!({"run_id": run, "datasets": [{"dataset": dataset, "tags": []}]}))
        .await;
    world.post("runs/delete-tag", json!({"run_id": run, "key": "k"})).await;
    world.post("runs/update", json!({"run_id": run, "status": "FINISHED"})).await;
    world.post("runs/delete", json!({"run_id": run})).await;
    world.post("runs/restore", json!({"run_id": run})).await;
    let model = world.onnx_model(MODEL).await;
    assert!(world.version("m", &model).await.0.is_success());
    let of_model = |mut body: serde_json::Value| {
        body["name"] = "m".into();
        body
    };
    world.call(Method::PATCH, "registered-models/update", of_model(json!({"description": "x"}))).await;
    world.post("registered-models/set-tag", of_model(json!({"key": "k", "value": "v"}))).await;
    world.post("registered-models/alias", of_model(json!({"alias": "champion", "version": "1"}))).await;
    let alias = of_model(json!({"alias": "champion"}));
    world.call(Method::DELETE, "registered-models/alias", alias).await;
    let policy = json!({"rules": [{"rule": "has-description"}]});
    assert!(world.v1(Method::PUT, "models/m/policies/champion", policy).await.0.is_success());
    let body = of_model(json!({"alias": "champion", "version": "1"}));
    assert!(!world.try_call(Method::POST, "registered-models/alias", body).await.0.is_success());
    world.post("model-versions/set-tag", of_model(json!({"version": "1", "key": "k", "value": "v"}))).await;
    world
        .post("model-versions/transition-stage", of_model(json!({"version": "1", "stage": "Staging"})))
        .await;
    world.call(Method::DELETE, "model-versions/delete", of_model(json!({"version": "1"}))).await;
    world.post("registered-models/rename", of_model(json!({"new_name": "n"}))).await;
    world.call(Method::DELETE, "registered-models/delete", json!({"name": "n"})).await;
    world.call(Method::DELETE, &format!("logged-models/{model}"), json!({})).await;
    assert!(world.put_file("0/x/artifacts/a", b"a").await.0.is_success());
    world.raw(Method::DELETE, "/api/2.0/mlflow-artifacts/artifacts/0/x/artifacts/a", "").await;
    let rule = json!({"for": {"scope": "all"}, "after_days": 1, "action": "archive", "enabled": false});
    world.v1(Method::PUT, "retention-rules/r", rule.clone()).await;
    world.v1(Method::PUT, "retention-rules/r", rule).await;
    world.v1(Method::DELETE, "retention-rules/r", json!({})).await;
    let hook = json!({"name": "w", "url": "http://127.0.0.1:9", "events": ["slipway.registry.run.purged"]});
    world.v1(Method::POST, "webhooks", hook).await;
    world.v1(Method::PATCH, "webhooks/w", json!({"enabled": false})).await;
    world.v1(Method::POST, "webhooks/w/rotate-secret", json!({})).await;
    world.v1(Method::DELETE, "webhooks/w", json!({})).await;
    world.post("runs/delete", json!({"run_id": run})).await;
    world.post("experiments/delete", json!({"experiment_id": experiment})).await;
    world.post("experiments/restore", json!({"experiment_id": experiment})).await;
    world.post("experiments/delete", json!({"experiment_id": experiment})).await;
    world.v1(Method::POST, "purge", json!({"older_than_s": 0, "dry_run": false})).await;

    world.events("slipway.registry.experiment.purged", 1).await;
    let told: BTreeSet<String> =
        world.events("slipway.registry.", 40).await.into_iter().map(|event| event.subject).collect();
    assert!(told.len() > 30, "{told:?}");
}
