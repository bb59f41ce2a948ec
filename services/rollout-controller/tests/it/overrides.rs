//! Rules by header and the kill switch: set by people, in the table at once, and there whatever a rollout
//! does.

use reqwest::Method;
use serde_json::{Value, json};
use slipway_api::traffic::{KillMode, TrafficTable};

use crate::world::{Controller, World};

/// The table once it is as wanted.
async fn table(world: &World, wanted: impl Fn(&TrafficTable) -> bool) -> TrafficTable {
    for _ in 0..400 {
        if let Some(table) = world.table().await.filter(|table| wanted(table)) {
            return table;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the table never came to be so: {:?}", world.table().await)
}

async fn put(world: &World, controller: &Controller, what: &str, body: Value) -> Value {
    world.call(controller, Method::PUT, &format!("deployments/d/{what}"), body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_kept_through_a_rollout() {
    let (world, controller) = World::deployed().await;
    let rules =
        json!([{"name": "our tests", "when": [{"header": "x-beta", "one_of": ["1"]}], "to": "candidate"}]);
    let shown = put(&world, &controller, "rules", json!({"rules": rules})).await;
    assert_eq!(shown["rules"], rules);
    let set = table(&world, |table| !table.rules.is_empty()).await;
    // The same again changes nothing.
    put(&world, &controller, "rules", json!({"rules": rules})).await;
    assert_eq!(world.get(&controller, "deployments/d").await["traffic"]["revision"], set.revision);

    world.roll_out(&controller, "2").await;
    let trial = table(&world, |table| !table.candidates.is_empty()).await;
    assert_eq!(trial.rules, set.rules);
    let gone = put(&world, &controller, "rules", json!({"rules": []})).await;
    assert_eq!(gone["rules"], json!([]));
    table(&world, |table| table.rules.is_empty() && !table.candidates.is_empty()).await;

    for (body, field) in [
        (json!({"rules": [{"when": [], "to": "stable"}]}), "rules[0].when"),
        (json!({"rules": [{"when": [{"header": "a b"}], "to": "stable"}]}), "rules[0].when[0].header"),
        (json!({"rules": [{"when": [{"header": "a"}], "to": "nobody"}]}), "rules[0].to"),
        (json!({}), "rules"),
    ] {
        let (status, answer) =
            world.try_call(&controller, Method::PUT, "deployments/d/rules", body.clone()).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer.to_string().contains(field), "{body}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_holds_a_rollout_until_it_is_turned_off() {
    let (world, controller) = World::deployed().await;
    let id = world.roll_out(&controller, "2").await;
    world.wait_for(&controller, "2", "progressing").await;
    let shown = put(&world, &controller, "kill-switch", json!({"reason": "wrong prices"})).await;
    assert_eq!(shown["kill_switch"], json!({"mode": "stable-only", "reason": "wrong prices"}));
    let killed = table(&world, TrafficTable::is_stable_only).await;
    assert_eq!(killed.weights()[0].0.version, "1");
    let paused = world.wait_for(&controller, "2", "paused").await;
    assert!(paused["reason"].as_str().unwrap().contains("wrong prices"), "{paused}");

    put(&world, &controller, "kill-switch", json!({"mode": "refuse", "reason": "worse"})).await;
    let refusing = table(&world, |table| table.refusal() == Some("worse")).await;
    assert_eq!(refusing.kill_switch.unwrap().mode, KillMode::Refuse);

    let off = world.call(&controller, Method::DELETE, "deployments/d/kill-switch", json!({})).await;
    assert_eq!(off["kill_switch"], Value::Null);
    table(&world, |table| table.kill_switch.is_none()).await;
    // Off is off, however often it is said.
    world.call(&controller, Method::DELETE, "deployments/d/kill-switch", json!({})).await;
    assert_eq!(world.wait_for(&controller, "2", "paused").await["id"], json!(id));
    world.call(&controller, Method::POST, &format!("rollouts/{id}/resume"), json!({})).await;
    world.wait_for(&controller, "2", "progressing").await;

    let (status, answer) =
        world.try_call(&controller, Method::PUT, "deployments/none/kill-switch", json!({})).await;
    assert_eq!(status, 404, "{answer}");
    let (status, answer) = world
        .try_call(&controller, Method::PUT, "deployments/d/kill-switch", json!({"mode": "explode"}))
        .await;
    assert!(status == 400 && answer.to_string().contains("stable-only"), "{answer}");
}
