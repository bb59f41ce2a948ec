//! Controllers in processes of their own: one leads, and any of them hangs or dies.

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;

use crate::world::{Controller, Process, World, strategy};

/// Two controllers and version 1 deployed as `d`: the one that leads, and the other one.
async fn two() -> (World, Process, Process) {
    let world = World::begin(slipway_testkit::postgres().await.url).await;
    let leader = world.process().await;
    while !world.leads(&leader.controller).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let other = world.process().await;
    let body = json!({"name": "d", "model": "m", "version": "1", "watch_alias": "champion",
        "default_strategy": strategy()});
    world.call(&other.controller, Method::POST, "deployments", body).await;
    world.wait_for(&leader.controller, "1", "promoted").await;
    assert!(!world.leads(&other.controller).await);
    (world, leader, other)
}

/// Goes on with answers and labels until version 2 is promoted.
async fn requests(world: &World, controller: &Controller) {
    let mut rounds = 0;
    while world.get(controller, "rollouts?deployment=d").await["rollouts"][0]["phase"] != "promoted" {
        assert!(rounds < 120, "version 2 is not promoted");
        rounds += 1;
        world.replica.answers("1", "stable", 30, 1.0, false).await;
        world.replica.answers("2", "candidate", 30, 1.0, false).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_hangs_and_does_not_lead_holds_up_no_alias_move() {
    let (world, leader, other) = two().await;
    other.signal(Signal::SIGSTOP);
    for (number, version) in ["2", "3", "4", "2", "3", "4"].into_iter().enumerate() {
        world.alias_set(version, &format!("event-{number}"), &format!("{number}")).await;
        // It waits for less than the 30 s after which a message used to be delivered again.
        world
            .deployment(&leader.controller, "the move", |shown| {
                shown["last_alias_move"]["version"] == version
            })
            .await;
    }
    other.signal(Signal::SIGCONT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_is_replaced_and_does_nothing_when_it_goes_on() {
    let (world, leader, other) = two().await;
    world.roll_out(&other.controller, "2").await;
    world.wait_for(&other.controller, "2", "progressing").await;
    leader.signal(Signal::SIGSTOP);
    requests(&world, &other.controller).await;
    assert!(world.leads(&other.controller).await);
    let table = world.table().await.unwrap();
    leader.signal(Signal::SIGCONT);
    // An answer of it: it is awake. It hears of the end of its term with its next renewal.
    world.wait_for(&leader.controller, "2", "promoted").await;
    while world.leads(&leader.controller).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(world.told("2").await, ["started", "preparing", "advanced", "advanced", "promoted"]);
    assert_eq!(world.table().await.unwrap(), table);
    assert!(world.leads(&other.controller).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_is_replaced() {
    let (world, leader, other) = two().await;
    world.roll_out(&other.controller, "2").await;
    world.wait_for(&other.controller, "2", "progressing").await;
    leader.signal(Signal::SIGKILL);
    requests(&world, &other.controller).await;
    world.alias_set("3", "event-1", "1").await;
    world.wait_for(&other.controller, "3", "progressing").await;
}
