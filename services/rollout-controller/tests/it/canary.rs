//! A canary that passes, and canaries that do not.

use reqwest::Method;
use serde_json::json;

use crate::world::{Controller, World};

/// Traffic to both versions until the rollout is in that phase.
async fn under_traffic(
    world: &World,
    controller: &Controller,
    right: f64,
    failed: bool,
    phase: &str,
) -> serde_json::Value {
    let serve = async {
        loop {
            world.replica.answers("1", "stable", 30, 1.0, false).await;
            world.replica.answers("2", "candidate", 30, right, failed).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = serve => unreachable!("it serves for ever"),
        rollout = world.wait_for(controller, "2", phase) => rollout,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_takes_over_step_by_step() {
    let (world, controller) = World::deployed().await;
    world.roll_out(&controller, "2").await;
    let rollout = under_traffic(&world, &controller, 1.0, false, "promoted").await;
    // Before the first answers arrived, a step may have been inconclusive.
    let decisions = rollout["decisions"].as_array().unwrap();
    let passed: Vec<_> = decisions.iter().filter(|decision| decision["verdict"] == "pass").collect();
    assert_eq!(passed.len(), 2, "{rollout}");
    let asked = |decision: &serde_json::Value| {
        decision["evidence"]["facts"]["candidate"]["requests"].as_u64().unwrap()
    };
    assert!(passed.iter().all(|decision| asked(decision) >= 20), "{rollout}");
    assert!(rollout["promotion_decided_at_unix_ms"].is_u64());
    let table = world.table().await.unwrap();
    assert_eq!((table.stable.unwrap().version.as_str(), table.warm[0].version.as_str()), ("2", "1"));
    // The replica saw the shares grow, and at every moment somebody answered everything.
    let shares: Vec<u8> = world
        .replica
        .tables()
        .iter()
        .map(|table| table.candidates.first().map_or(0, |one| one.weight_percent))
        .collect();
    assert!(shares.contains(&10) && shares.contains(&50), "{shares:?}");
    assert!(world.replica.tables().iter().skip(1).all(|table| table.stable.is_some()));
    assert_eq!(world.told("2").await, ["started", "preparing", "advanced", "advanced", "promoted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_and_failures_are_rolled_back_with_their_numbers() {
    for (right, failed, word) in [(0.4, false, "accuracy"), (1.0, true, "error_rate")] {
        let (world, controller) = World::deployed().await;
        world.roll_out(&controller, "2").await;
        let rollout = under_traffic(&world, &controller, right, failed, "rolled_back").await;
        let reason = rollout["reason"].as_str().unwrap();
        assert!(reason.contains(word) && reason.contains('%'), "{reason}");
        assert!(rollout["rollback_decided_at_unix_ms"].is_u64());
        let table = world.table().await.unwrap();
        assert_eq!(table.stable.unwrap().version, "1");
        assert!(table.candidates.is_empty() && table.shadows.is_empty());
        assert_eq!(world.told("2").await.last().unwrap(), "rolled-back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_load_never_gets_traffic() {
    let (world, controller) = World::deployed().await;
    world.replica.breaks("2", "the file is damaged");
    world.roll_out(&controller, "2").await;
    let rollout = world.wait_for(&controller, "2", "failed").await;
    assert!(rollout["reason"].as_str().unwrap().contains("the file is damaged"), "{rollout}");
    assert!(world.replica.tables().iter().all(|table| table.candidates.is_empty()));
    assert_eq!(world.table().await.unwrap().stable.unwrap().version, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_can_pause_go_on_promote_and_take_it_back() {
    let (world, controller) = World::deployed().await;
    let id = world.roll_out(&controller, "2").await;
    world.wait_for(&controller, "2", "progressing").await;
    let act = async |verb: &str| {
        world.try_call(&controller, Method::POST, &format!("rollouts/{id}/{verb}"), json!({})).await
    };
    assert_eq!(act("pause").await.1["phase"], "paused");
    let (status, answer) = act("pause").await;
    assert_eq!(status, 409, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("paused"), "{answer}");
    assert_eq!(act("resume").await.1["phase"], "progressing");
    act("promote").await;
    world.wait_for(&controller, "2", "promoted").await;
    world
        .call(&controller, Method::POST, "deployments/d/rollback", json!({"reason": "customers complain"}))
        .await;
    let rollout = world.wait_for(&controller, "2", "rolled_back").await;
    assert!(rollout["reason"].as_str().unwrap().contains("customers complain"), "{rollout}");
    assert_eq!(world.table().await.unwrap().stable.unwrap().version, "1");
    let (status, answer) =
        world.try_call(&controller, Method::POST, "deployments/d/rollback", json!({})).await;
    assert_eq!(status, 409, "{answer}");
}
