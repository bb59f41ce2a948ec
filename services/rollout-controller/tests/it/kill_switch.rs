//! While the kill switch is on, no version gains traffic; the answer says which replicas follow.

use reqwest::Method;
use serde_json::{Value, json};
use slipway_api::proto::rollout::rollout_controller_client::RolloutControllerClient;
use slipway_api::proto::rollout::{GetDeploymentRequest, StartRolloutRequest};

use crate::world::{Controller, World};

async fn kill(world: &World, at: &Controller, body: Value) -> Value {
    world.call(at, Method::PUT, "deployments/d/kill-switch", body).await
}

/// A request that the kill switch refuses, with the way to lift it.
async fn refused(world: &World, at: &Controller, path: &str, body: Value) {
    let (status, answer) = world.try_call(at, Method::POST, path, body).await;
    assert_eq!(status, 409, "{path}: {answer}");
    let detail = answer["detail"].as_str().unwrap();
    assert!(
        detail.contains("kill switch") && detail.contains("slipway deployments revive"),
        "{path}: {detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_or_advances_while_it_is_on() {
    let (world, at) = World::deployed().await;
    kill(&world, &at, json!({"reason": "wrong prices"})).await;
    let no_requests =
        json!({"steps": [{"weight_percent": 50, "hold_s": 0}], "analysis": {"min_requests": 0}});
    for body in [
        json!({"version": "2"}),
        json!({"version": "2", "strategy": {"steps": []}}),
        json!({"version": "2", "strategy": no_requests}),
    ] {
        refused(&world, &at, "deployments/d/rollouts", body).await;
    }
    refused(&world, &at, "deployments/d/rollback", json!({"to_version": "3"})).await;
    let mut client = RolloutControllerClient::connect(at.url.clone()).await.unwrap();
    let start = StartRolloutRequest { deployment: "d".into(), version: "2".into(), ..Default::default() };
    let status = client.start_rollout(start).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
    let shown = client.get_deployment(GetDeploymentRequest { name: "d".into() }).await.unwrap().into_inner();
    assert_eq!(shown.kill_switch, "stable-only");
    assert_eq!(world.get(&at, "rollouts?deployment=d").await["rollouts"].as_array().unwrap().len(), 1);
    world.call(&at, Method::DELETE, "deployments/d/kill-switch", json!({})).await;

    let held = json!({"steps": [{"weight_percent": 50, "hold_s": 600}], "analysis": {"min_requests": 0}});
    let body = json!({"version": "2", "strategy": held});
    let started = world.call(&at, Method::POST, "deployments/d/rollouts", body).await;
    kill(&world, &at, json!({"mode": "refuse"})).await;
    let id = started["id"].as_str().unwrap();
    // The switch and the pause are one transaction.
    let before = world.get(&at, &format!("rollouts/{id}")).await;
    assert_eq!(before["phase"], "paused", "{before}");
    refused(&world, &at, &format!("rollouts/{id}/promote"), json!({})).await;
    refused(&world, &at, &format!("rollouts/{id}/resume"), json!({})).await;
    let after = world.get(&at, &format!("rollouts/{id}")).await;
    assert_eq!(after["weight_percent"], before["weight_percent"]);
    // Going back is not held up.
    let aborted = world.call(&at, Method::POST, &format!("rollouts/{id}/abort"), json!({})).await;
    assert_eq!(aborted["acknowledgement"]["complete"], true, "{aborted}");
    world.wait_for(&at, "2", "aborted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_version_can_be_taken_back_while_it_is_on() {
    let (world, at) = World::deployed().await;
    let body = json!({"version": "2", "strategy": {"steps": []}});
    world.call(&at, Method::POST, "deployments/d/rollouts", body).await;
    world.wait_for(&at, "2", "promoted").await;
    kill(&world, &at, json!({"reason": "version 2 is wrong"})).await;
    world.call(&at, Method::POST, "deployments/d/rollback", json!({})).await;
    world.wait_for(&at, "2", "rolled_back").await;
    let table = world.table().await.unwrap();
    assert_eq!((table.stable.unwrap().version.as_str(), table.kill_switch.is_some()), ("1", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moved_meanwhile_is_pending_and_starts_when_it_is_turned_off() {
    let (world, at) = World::deployed().await;
    kill(&world, &at, json!({"reason": "wrong prices"})).await;
    world.alias_set("2", "event-1", "1").await;
    let pending = world.alias_move(&at, "pending").await;
    let reason = pending["reason"].as_str().unwrap();
    assert!(reason.contains("wrong prices") && reason.contains("slipway deployments revive"), "{pending}");
    assert_eq!(world.table().await.unwrap().candidates, []);
    // The last move counts.
    world.alias_set("3", "event-2", "2").await;
    while world.alias_move(&at, "pending").await["version"] != "3" {}
    world.call(&at, Method::DELETE, "deployments/d/kill-switch", json!({})).await;
    let rollout = world.wait_for(&at, "3", "progressing").await;
    let started = world.alias_move(&at, "rollout-started").await;
    assert_eq!((&started["version"], &started["rollout_id"]), (&json!("3"), &rollout["id"]));
    let all = world.get(&at, "rollouts?deployment=d").await;
    assert_eq!(all["rollouts"].as_array().unwrap().len(), 2, "versions 1 and 3: {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_lists_replicas_that_have_not_followed() {
    let (world, at) = World::deployed().await;
    let killed = kill(&world, &at, json!({})).await;
    let told = &killed["acknowledgement"];
    assert_eq!((&told["complete"], &told["followed"]), (&json!(true), &json!(["r"])), "{killed}");
    assert_eq!(told["table_revision"], killed["traffic"]["revision"]);

    world.replica.hang(true);
    let rules = json!({"rules": [{"when": [{"header": "x-beta"}], "to": "stable"}]});
    for (method, path, body) in [
        (Method::PUT, "deployments/d/kill-switch", json!({"mode": "refuse"})),
        (Method::PUT, "deployments/d/rules", rules),
        (Method::DELETE, "deployments/d/kill-switch", json!({})),
    ] {
        let answer = world.call(&at, method, path, body).await;
        let told = &answer["acknowledgement"];
        assert_eq!(told["complete"], false, "{path}: {answer}");
        assert_eq!(told["not_followed"][0]["replica_id"], "r", "{path}: {answer}");
        let revisions = (told["not_followed"][0]["table_revision"].as_u64(), told["table_revision"].as_u64());
        assert!(revisions.0 < revisions.1, "{path}: {answer}");
        assert!(told["message"].as_str().unwrap().contains("`r`"), "{path}: {answer}");
    }
    world.replica.hang(false);
    let again = kill(&world, &at, json!({})).await;
    assert_eq!(again["acknowledgement"]["complete"], true, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_events_say_how_why_and_who() {
    let (world, at) = World::deployed().await;
    kill(&world, &at, json!({"mode": "refuse", "reason": "wrong prices"})).await;
    world.call(&at, Method::DELETE, "deployments/d/kill-switch", json!({})).await;
    for what in ["killed", "revived"] {
        let events = world.deployment_events(what).await;
        assert_eq!(events.len(), 1, "{events:?}");
        let facts = ["mode", "reason"].map(|field| events[0][field].as_str().unwrap_or_default());
        assert_eq!(facts, ["refuse", "wrong prices"], "{what}");
        assert_eq!(events[0]["actor"], json!({"name": "ann", "origin": "127.0.0.1"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_holds_a_rollout_up_is_named() {
    let (world, at) = World::deployed().await;
    let revision = world.table().await.unwrap().revision;
    world.replica.another_loads("slow-replica", "2", revision).await;
    let id = world.roll_out(&at, "2").await;
    let mut shown = Value::Null;
    for _ in 0..400 {
        shown = world.get(&at, &format!("rollouts/{id}")).await;
        if shown["reason"].as_str().unwrap().contains("slow-replica") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The other replica may still be on its way and be named too.
    let reason = shown["reason"].as_str().unwrap();
    assert!(reason.starts_with("version 2 is loading: "), "{shown}");
    assert!(reason.contains("replica `slow-replica` is loading it"), "{shown}");
    let waiting = shown["waiting_for"].as_array().unwrap();
    let slow = waiting.iter().find(|replica| replica["replica_id"] == "slow-replica");
    assert!(slow.is_some_and(|replica| replica["heard_ms_ago"].is_u64()), "{shown}");
    // It stays silent, and is left out in the end.
    world.wait_for(&at, "2", "progressing").await;
}
