//! Restarts, repeated news, a lost bucket, two controllers at once.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use slipway_api::events::EVENTS_STREAM;
use slipway_api::predictions::{LABELS_STREAM, PREDICTIONS_STREAM};
use slipway_api::traffic::TRAFFIC_BUCKET;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_goes_on_after_a_restart_and_tells_everything_once() {
    let (world, controller) = World::deployed().await;
    world.roll_out(&controller, "2").await;
    world.wait_for(&controller, "2", "progressing").await;
    // Requests before and after the restart count together.
    world.replica.answers("1", "stable", 15, 1.0, false).await;
    world.replica.answers("2", "candidate", 15, 1.0, false).await;
    controller.stop().await;
    let controller = world.controller().await;
    world.replica.answers("1", "stable", 10, 1.0, false).await;
    world.replica.answers("2", "candidate", 10, 1.0, false).await;
    let started = Instant::now();
    while world.get(&controller, "rollouts?deployment=d").await["rollouts"][0]["step"] != 1 {
        assert!(started.elapsed() < Duration::from_secs(20), "the first step does not end");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    world.replica.answers("1", "stable", 30, 1.0, false).await;
    world.replica.answers("2", "candidate", 30, 1.0, false).await;
    world.wait_for(&controller, "2", "promoted").await;
    assert_eq!(world.told("2").await, ["started", "preparing", "advanced", "advanced", "promoted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_starts_one_rollout_however_often_it_is_told() {
    let (world, controller) = World::deployed().await;
    world.alias_set("2", "event-1", "first").await;
    world.wait_for(&controller, "2", "progressing").await;
    world.alias_set("2", "event-1", "again").await;
    let body = json!({});
    let id = world.get(&controller, "rollouts?deployment=d").await["rollouts"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let all = world.get(&controller, "rollouts?deployment=d").await;
    assert_eq!(all["rollouts"].as_array().unwrap().len(), 2, "versions 1 and 2, once each: {all}");
    world.call(&controller, Method::POST, &format!("rollouts/{id}/abort"), body).await;
    world.wait_for(&controller, "2", "aborted").await;
    // The same event once more, after the rollout has ended.
    world.alias_set("2", "event-1", "much later").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let all = world.get(&controller, "rollouts?deployment=d").await;
    assert_eq!(all["rollouts"].as_array().unwrap().len(), 2, "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_takes_over_from_one_in_progress() {
    let (world, controller) = World::deployed().await;
    world.alias_set("2", "event-1", "1").await;
    world.wait_for(&controller, "2", "progressing").await;
    world.alias_set("3", "event-2", "2").await;
    world.wait_for(&controller, "3", "progressing").await;
    let old = world.wait_for(&controller, "2", "aborted").await;
    assert!(old["reason"].as_str().unwrap().contains("superseded by version 3"), "{old}");
    let table = world.table().await.unwrap();
    assert_eq!(
        (table.stable.unwrap().version.as_str(), table.candidates[0].target.version.as_str()),
        ("1", "3")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_at_a_version_that_cannot_be_served_says_so() {
    let (world, controller) = World::deployed().await;
    world.alias_set("5", "event-1", "1").await;
    let rollout = world.wait_for(&controller, "5", "failed").await;
    assert!(rollout["reason"].as_str().unwrap().contains("it holds no ONNX model"), "{rollout}");
    assert_eq!(world.told("5").await, ["failed"]);
    // The next one is not held up by it.
    world.alias_set("2", "event-2", "2").await;
    world.wait_for(&controller, "2", "progressing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_traffic_table_is_written_again() {
    let (world, _controller) = World::deployed().await;
    let before = world.table().await.unwrap();
    let store = world.bus.bucket(TRAFFIC_BUCKET).await.unwrap();
    store.purge("d").await.unwrap();
    store.put("gone", "{}".into()).await.unwrap();
    let started = Instant::now();
    while world.table().await.is_none() || store.get("gone").await.unwrap().is_some() {
        assert!(started.elapsed() < Duration::from_secs(20), "the table stays lost");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.table().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_may_be_away_in_the_middle() {
    let (world, controller) = World::deployed().await;
    world.nats.kill().await;
    // Acknowledged without NATS, carried out when it is back.
    world.roll_out(&controller, "2").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.nats.start_again().await;
    world.wait_for(&controller, "2", "progressing").await;
    assert_eq!(world.table().await.unwrap().candidates[0].weight_percent, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_one_leads_and_both_answer() {
    let (world, first) = World::deployed().await;
    let second = world.controller().await;
    world.roll_out(&second, "2").await;
    world.wait_for(&first, "2", "progressing").await;
    let id =
        world.get(&second, "rollouts?deployment=d").await["rollouts"][0]["id"].as_str().unwrap().to_owned();
    first.stop().await;
    world.call(&second, Method::POST, &format!("rollouts/{id}/promote"), json!({})).await;
    world.wait_for(&second, "2", "promoted").await;
    assert_eq!(world.told("2").await, ["started", "preparing", "advanced", "promoted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_may_lose_everything_in_the_middle() {
    let (world, controller) = World::deployed().await;
    world.roll_out(&controller, "2").await;
    world.wait_for(&controller, "2", "progressing").await;
    // Far more messages than there will be afterwards.
    for _ in 0..10 {
        world.replica.answers("1", "stable", 15, 1.0, false).await;
    }
    let before = world.table().await.unwrap();
    for stream in [EVENTS_STREAM, PREDICTIONS_STREAM, LABELS_STREAM] {
        world.bus.jetstream().delete_stream(stream).await.unwrap();
    }
    world.bus.jetstream().delete_key_value(TRAFFIC_BUCKET).await.unwrap();
    world.nats.kill().await;
    world.nats.start_again().await;
    let started = Instant::now();
    while world.try_table().await.as_ref() != Some(&before)
        || world.bus.jetstream().get_stream(LABELS_STREAM).await.is_err()
    {
        assert!(started.elapsed() < Duration::from_secs(20), "table or streams stay lost");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Streams are there again, and what is told from now on counts, though their numbers begin again.
    world.replica.answers("1", "stable", 30, 1.0, false).await;
    world.replica.answers("2", "candidate", 30, 1.0, false).await;
    let started = Instant::now();
    while world.get(&controller, "rollouts?deployment=d").await["rollouts"][0]["step"] != 1 {
        assert!(started.elapsed() < Duration::from_secs(20), "the first step does not end");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_be_away_in_the_middle() {
    let (postgres, world, controller) = World::deployed_on_own_postgres().await;
    world.roll_out(&controller, "2").await;
    world.wait_for(&controller, "2", "progressing").await;
    let before = world.table().await.unwrap();
    postgres.kill().await;
    let (status, answer) =
        world.try_call(&controller, Method::POST, "deployments/d/rollback", json!({})).await;
    assert_eq!(status, 503, "{answer}");
    // News that arrives meanwhile waits.
    world.alias_set("3", "event-1", "1").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.table().await.unwrap(), before, "replicas go on with what they know");
    postgres.start_again().await;
    world.wait_for(&controller, "3", "progressing").await;
    world.wait_for(&controller, "2", "aborted").await;
    assert_eq!(world.told("3").await, ["started", "preparing", "advanced"]);
    assert_eq!(world.told("2").await, ["started", "preparing", "advanced", "aborted"]);
}
