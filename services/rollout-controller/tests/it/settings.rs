//! What can be changed of a deployment, what a rollout keeps, and aliases that are set again.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_merges_validates_and_is_published() {
    let (world, at) = World::deployed().await;
    let before = world.get(&at, "deployments/d").await;
    let patch =
        json!({"default_strategy": {"analysis": {"min_requests": 7}}, "sticky_key": {"header": "x-user"}});
    let shown = world.call(&at, Method::PATCH, "deployments/d", patch.clone()).await;
    let mut expected = before["default_strategy"].clone();
    expected["analysis"]["min_requests"] = json!(7);
    assert_eq!((&shown["default_strategy"], &shown["sticky_key"]["header"]), (&expected, &json!("x-user")));
    assert_eq!(shown["watch_alias"], "champion");
    assert_eq!(shown["acknowledgement"]["complete"], true, "{shown}");
    assert_eq!(world.table().await.unwrap().sticky_key.unwrap().header, "x-user");
    // The same again changes nothing.
    let again = world.call(&at, Method::PATCH, "deployments/d", patch).await;
    assert_eq!(again["traffic"]["revision"], shown["traffic"]["revision"]);

    let off = json!({"sticky_key": null, "watch_alias": "next", "default_strategy": null});
    let shown = world.call(&at, Method::PATCH, "deployments/d", off).await;
    assert_eq!((&shown["sticky_key"], &shown["watch_alias"]), (&Value::Null, &json!("next")));
    assert_eq!(shown["default_strategy"]["steps"][0]["hold_s"], 60.0, "the default: {shown}");
    world.alias_set("2", "event-1", "1").await;
    let events = world.deployment_events("updated").await;
    assert_eq!(events[0]["changed"], json!(["default_strategy", "sticky_key"]), "{events:?}");
    assert_eq!(events[1]["changed"], json!(["default_strategy", "sticky_key", "watch_alias"]), "{events:?}");
    let all = world.get(&at, "rollouts?deployment=d").await;
    assert_eq!(all["rollouts"].as_array().unwrap().len(), 1, "champion is not watched any more: {all}");

    for (patch, field) in [
        (json!({"name": "e"}), "name"),
        (json!({"model": "n"}), "model"),
        (json!({"sticky_key": {"header": ""}}), "sticky_key.header"),
        (json!({"watch_alias": ""}), "watch_alias"),
        (json!({"default_strategy": {"shadow_percent": 101}}), "default_strategy.shadow_percent"),
        (json!({"default_strategy": {"stepz": []}}), "default_strategy"),
    ] {
        let (status, answer) = world.try_call(&at, Method::PATCH, "deployments/d", patch.clone()).await;
        assert_eq!(status, 400, "{patch}: {answer}");
        assert!(answer["field"].as_str().unwrap().starts_with(field), "{patch}: {answer}");
    }
    let (status, _) = world.try_call(&at, Method::PATCH, "deployments/none", json!({})).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_in_progress_keeps_its_strategy_and_says_so() {
    let (world, at) = World::deployed().await;
    let id = world.roll_out(&at, "2").await;
    world.wait_for(&at, "2", "progressing").await;
    let path = "deployments/d/rollouts";
    let other = json!({"version": "2", "strategy": {"steps": []}});
    let (status, answer) = world.try_call(&at, Method::POST, path, other).await;
    assert_eq!(status, 409, "{answer}");
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("another strategy") && detail.contains(&id), "{answer}");
    // The same strategy, or none, is the rollout in progress.
    let same =
        json!({"version": "2", "strategy": world.get(&at, &format!("rollouts/{id}")).await["strategy"]});
    for body in [json!({"version": "2"}), same] {
        let (status, answer) = world.try_call(&at, Method::POST, path, body).await;
        assert_eq!((status.as_u16(), answer["id"].as_str().unwrap()), (200, id.as_str()), "{answer}");
    }
    world
        .call(&at, Method::PATCH, "deployments/d", json!({"default_strategy": {"shadow_percent": 50}}))
        .await;
    assert_eq!(world.get(&at, &format!("rollouts/{id}")).await["strategy"]["shadow_percent"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_set_again_to_an_aborted_version_says_why_nothing_follows() {
    let (world, at) = World::deployed().await;
    world.alias_set("2", "event-1", "1").await;
    let rollout = world.wait_for(&at, "2", "progressing").await;
    let id = rollout["id"].as_str().unwrap();
    let abort = json!({"reason": "wrong prices"});
    world.call(&at, Method::POST, &format!("rollouts/{id}/abort"), abort).await;
    world.wait_for(&at, "2", "aborted").await;

    world.alias_set_again("2", "event-2", "2").await;
    let noted = world.alias_move(&at, "not-retried").await;
    let reason = noted["reason"].as_str().unwrap();
    for part in ["aborted", "wrong prices", "slipway rollouts start d 2"] {
        assert!(reason.contains(part), "'{part}' is not in: {reason}");
    }
    assert_eq!((&noted["version"], &noted["rollout_id"]), (&json!("2"), &json!(id)));
    let events = world.deployment_events("alias-moved").await;
    assert_eq!(events.last().unwrap()["alias_move"], noted, "{events:?}");
    // An explicit start is the way to try again; so is moving the alias away and back.
    world.roll_out(&at, "2").await;
    world.wait_for(&at, "2", "progressing").await;
    world.alias_set("1", "event-3", "3").await;
    world.alias_move(&at, "rollout-aborted").await;
    world.wait_for(&at, "2", "aborted").await;
    world.alias_set("2", "event-4", "4").await;
    world.alias_move(&at, "rollout-started").await;
    world.alias_set("5", "event-5", "5").await;
    let noted = world.alias_move(&at, "not-servable").await;
    assert!(noted["reason"].as_str().unwrap().contains("no ONNX model"), "{noted}");
}
