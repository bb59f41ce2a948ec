//! What clients may ask, and what they hear when they ask wrongly.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::proto::rollout::rollout_controller_client::RolloutControllerClient;
use slipway_api::proto::rollout::{GetDeploymentRequest, PauseDeploymentRequest, StartRolloutRequest};

use crate::world::{Controller, World};

async fn refused(
    world: &World,
    at: &Controller,
    path: &str,
    body: Value,
    status: u16,
    field: Option<&str>,
    word: &str,
) {
    let (answered, answer) = world.try_call(at, Method::POST, path, body).await;
    assert_eq!(answered.as_u16(), status, "{path}: {answer}");
    assert!(answer["detail"].as_str().unwrap().contains(word), "{path}: {answer}");
    if let Some(field) = field {
        assert_eq!(answer["field"], field, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_field_and_leave_nothing() {
    let (world, at) = World::deployed().await;
    let with = |change: Value| {
        let mut body = json!({"name": "x", "model": "m", "version": "1"});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let path = "deployments";
    refused(&world, &at, path, with(json!({"model": "nobody"})), 404, None, "nobody").await;
    refused(&world, &at, path, with(json!({"version": "5"})), 400, Some("version"), "no ONNX model").await;
    refused(&world, &at, path, with(json!({"name": "a b"})), 400, Some("name"), "letters").await;
    refused(&world, &at, path, with(json!({"alias": "champion"})), 400, Some("version"), "either").await;
    refused(&world, &at, path, with(json!({"name": "d"})), 409, None, "exists already").await;
    refused(&world, &at, path, with(json!({"colour": "red"})), 400, Some("colour"), "unknown field").await;
    let steps = json!({"steps": [{"weight_percent": 130, "hold_s": 1}]});
    let field = Some("default_strategy.steps[0].weight_percent");
    refused(&world, &at, path, with(json!({ "default_strategy": steps })), 400, field, "0 to 100").await;
    // An array of its fields is no object.
    refused(&world, &at, path, json!(["x", "m", "1"]), 400, Some("body"), "expected an object").await;
    let positional = json!({"steps": [[10, 1]]});
    let field = Some("default_strategy.steps[0]");
    refused(
        &world,
        &at,
        path,
        with(json!({ "default_strategy": positional })),
        400,
        field,
        "expected an object",
    )
    .await;
    refused(&world, &at, "rollouts/%FF/promote", json!({}), 400, Some("id"), "UTF-8").await;
    let path = "deployments/d/rollouts";
    refused(&world, &at, path, json!({"version": "99"}), 404, None, "99").await;
    refused(&world, &at, path, json!({"version": "1"}), 400, Some("version"), "already stable").await;
    let field = Some("strategy.steps[0].weight_percent");
    refused(&world, &at, path, json!({"version": "2", "strategy": steps}), 400, field, "0 to 100").await;
    refused(&world, &at, "deployments/none/rollouts", json!({"version": "2"}), 404, None, "none").await;
    refused(&world, &at, "rollouts/none/promote", json!({}), 404, None, "none").await;
    let all = world.get(&at, "deployments").await;
    assert_eq!(all["deployments"].as_array().unwrap().len(), 1, "{all}");
    assert_eq!(world.get(&at, "rollouts").await["rollouts"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_are_listed_in_pages_and_can_go() {
    let (world, at) = World::deployed().await;
    for name in ["a", "b"] {
        let body = json!({"name": name, "model": "m", "alias": "champion"});
        world.call(&at, Method::POST, "deployments", body).await;
    }
    let page = world.get(&at, "deployments?limit=2").await;
    let token = page["next_page_token"].as_str().unwrap();
    let rest = world.get(&at, &format!("deployments?limit=2&page_token={token}")).await;
    assert_eq!((&rest["deployments"][0]["name"], rest.get("next_page_token")), (&json!("d"), None));
    let revision = world.table().await.unwrap().revision;
    let (status, _) = world.try_call(&at, Method::DELETE, "deployments/d", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(world.table().await, None);
    let (status, _) = world.try_call(&at, Method::GET, "deployments/d", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    world.call(&at, Method::POST, "deployments", json!({"name": "d", "model": "m", "version": "2"})).await;
    world.wait_for(&at, "2", "promoted").await;
    assert!(world.table().await.unwrap().revision > revision, "replicas never see an older revision");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_services_ask_and_act_once_a_key() {
    let (world, at) = World::deployed().await;
    let mut client = RolloutControllerClient::connect(at.url.clone()).await.unwrap();
    let deployment =
        client.get_deployment(GetDeploymentRequest { name: "d".into() }).await.unwrap().into_inner();
    assert_eq!((deployment.stable_version.as_str(), deployment.stable_digest.as_str()), ("1", "sha256:1"));
    let pause = |key: &str| PauseDeploymentRequest {
        deployment: "d".into(),
        reason: "drift".into(),
        idempotency_key: key.into(),
    };
    assert!(client.pause_deployment(pause("0")).await.unwrap().into_inner().rollout.is_none());
    let start = StartRolloutRequest {
        deployment: "d".into(),
        version: "2".into(),
        strategy_json: String::new(),
        idempotency_key: "k".into(),
    };
    let first = client.start_rollout(start.clone()).await.unwrap().into_inner();
    assert_eq!(client.start_rollout(start).await.unwrap().into_inner().id, first.id);
    world.wait_for(&at, "2", "progressing").await;
    let paused = client.pause_deployment(pause("1")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!((paused.phase.as_str(), paused.reason.as_str()), ("paused", "drift"));
    world.call(&at, Method::POST, &format!("rollouts/{}/resume", first.id), json!({})).await;
    // The same request again, after a person has decided otherwise.
    let again = client.pause_deployment(pause("1")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(again.phase, "progressing");
}
