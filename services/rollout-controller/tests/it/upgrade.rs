//! The controller next to serving replicas of an earlier release, which write a status for each deployment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use slipway_api::traffic::{
    DeploymentStatus, REPLICAS_BUCKET, TRAFFIC_BUCKET, TablesHead, TrafficTable, VersionState, VersionStatus,
};
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;

use crate::world::World;

/// A replica of an earlier release that has not loaded version 2 before it may.
async fn replica(bus: EventBus, may_load: Arc<AtomicBool>) {
    let tables = bus.bucket(TRAFFIC_BUCKET).await.unwrap();
    let statuses = bus.bucket(REPLICAS_BUCKET).await.unwrap();
    loop {
        if let Some(table) = tables.get("d").await.unwrap() {
            let table: TrafficTable = serde_json::from_slice(&table).unwrap();
            let loaded = |version: &str| version != "2" || may_load.load(Ordering::Relaxed);
            let versions = table.targets().map(|target| VersionStatus {
                version: target.version.clone(),
                digest: target.digest.clone(),
                state: if loaded(&target.version) { VersionState::Ready } else { VersionState::Loading },
                reason: None,
            });
            let status = DeploymentStatus {
                replica_id: "old".into(),
                deployment: "d".into(),
                table_revision: table.revision,
                versions: versions.collect(),
                at_unix_ms: now_unix_ms(),
            };
            statuses.put("old.d", serde_json::to_vec(&status).unwrap().into()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_waits_for_replicas_of_an_earlier_release_and_goes_on_with_them() {
    let (world, at) = World::deployed().await;
    let may_load = Arc::new(AtomicBool::new(false));
    let old = tokio::spawn(replica(world.bus.clone(), Arc::clone(&may_load)));
    let shown = async || world.get(&at, "deployments/d").await["replicas"].clone();
    while shown().await.as_array().is_none_or(|replicas| replicas.len() < 2) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = world.roll_out(&at, "2").await;
    let mut waits = String::new();
    while !waits.contains("replica `old` is loading it") {
        let rollout = world.get(&at, &format!("rollouts/{id}")).await;
        assert_eq!(rollout["phase"], "preparing", "{rollout}");
        waits = rollout["reason"].to_string();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    may_load.store(true, Ordering::Relaxed);
    world.wait_for(&at, "2", "progressing").await;
    // A table is acknowledged by both, and an entry that the earlier release does not know harms nobody.
    let tables = world.bus.bucket(TRAFFIC_BUCKET).await.unwrap();
    let head = tables.get(slipway_api::traffic::TABLES_HEAD_KEY).await.unwrap().expect("the head is there");
    serde_json::from_slice::<TablesHead>(&head).unwrap();
    let killed = world
        .call(&at, reqwest::Method::PUT, "deployments/d/kill-switch", serde_json::json!({"mode": "refuse"}))
        .await;
    assert_eq!(killed["acknowledgement"]["followed"], serde_json::json!(["old", "r"]), "{killed}");
    old.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_an_earlier_release_removed_is_written_again() {
    let (world, at) = World::deployed().await;
    let tables = world.bus.bucket(TRAFFIC_BUCKET).await.unwrap();
    let head = slipway_api::traffic::TABLES_HEAD_KEY;
    while tables.get(head).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tables.delete(head).await.unwrap();
    while tables.get(head).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    at.stop().await;
}
