//! What becomes of an alias that is moved more than once, and of its trace.

use std::time::Duration;

use serde_json::Value;

use crate::world::{Controller, World};

/// Long enough for the controller to act on news that it should not act on.
const QUIET: Duration = Duration::from_millis(500);

async fn versions_rolled_out(world: &World, controller: &Controller) -> Vec<String> {
    let all = world.get(controller, "rollouts?deployment=d").await;
    let mut versions: Vec<String> = all["rollouts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["to_version"].as_str().unwrap().to_owned())
        .collect();
    versions.reverse();
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn old_news_that_arrives_late_does_not_replace_newer_news() {
    let (world, controller) = World::deployed().await;
    world.alias_set("3", "event-2", "1").await;
    world.wait_for(&controller, "3", "progressing").await;
    // A delivery that failed the first time comes again after those that followed it.
    world.alias_told("2", "event-1", "2", None).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(versions_rolled_out(&world, &controller).await, ["1", "3"]);
    assert_eq!(world.table().await.unwrap().candidates[0].target.version, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_moved_back_to_stable_ends_the_canary() {
    let (world, controller) = World::deployed().await;
    world.alias_set("2", "event-1", "1").await;
    world.wait_for(&controller, "2", "progressing").await;
    world.alias_set("1", "event-2", "2").await;
    let rollout = world.wait_for(&controller, "2", "aborted").await;
    let reason = rollout["reason"].as_str().unwrap();
    assert!(reason.contains("champion") && reason.contains("version 1"), "{rollout}");
    let table = world.table().await.unwrap();
    assert_eq!((table.stable.unwrap().version.as_str(), table.candidates.len()), ("1", 0));
    assert_eq!(versions_rolled_out(&world, &controller).await, ["1", "2"]);
    assert_eq!(world.told("2").await, ["started", "preparing", "advanced", "aborted"]);
    // Told once more, it changes nothing.
    world.alias_set("1", "event-2", "3").await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(versions_rolled_out(&world, &controller).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_alias_to_the_traffic_table() {
    crate::world::trace();
    let (world, controller) = World::deployed().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    world.versions.point_champion_at("2");
    world.alias_told("2", "event-1", "1", Some(&format!("00-{trace}-b7ad6b7169203331-01"))).await;
    let rollout: Value = world.wait_for(&controller, "2", "progressing").await;
    let of = |traceparent: Option<&str>| traceparent.unwrap().split('-').nth(1).unwrap().to_owned();
    assert_eq!(of(world.table().await.unwrap().traceparent.as_deref()), trace, "{rollout}");
    let news = world.news("2").await;
    assert!(news.len() >= 3, "{news:?}");
    assert!(news.iter().all(|(_, traceparent)| of(traceparent.as_deref()) == trace), "{news:?}");
}
