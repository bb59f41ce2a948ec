//! Many deployments and several replicas: what is written grows with changes only, and one replica that hangs
//! holds nobody up for long.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use slipway_api::traffic::{REPLICAS_BUCKET, TABLE_MARKER_MAX_AGE_S, TABLES_HEAD_KEY, TRAFFIC_BUCKET};

use crate::world::World;

const DEPLOYMENTS: u64 = 50;
const TABLES_PER_DEPLOYMENT: u64 = 2;

fn names() -> Vec<String> {
    (0..DEPLOYMENTS).map(|number| format!("d-{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_controller_writes_and_asks_nothing_for_each_deployment() {
    let (world, at) = World::deployed().await;
    let (_, before) = world.written(TRAFFIC_BUCKET).await;
    world.deploy(&at, &names()).await;
    let (_, created) = world.written(TRAFFIC_BUCKET).await;
    // A table that has the version loaded, and one that gives it the traffic and ends the rollout.
    assert_eq!(created - before, TABLES_PER_DEPLOYMENT * DEPLOYMENTS);

    let mut all = world.bus.client().subscribe(">").await.unwrap();
    world.bus.client().flush().await.unwrap();
    // Counts what is sent about tables while the replica reports so many times.
    let mut about_tables = async |reports: u64| {
        let (mut heard, mut about) = (0, Vec::new());
        while heard < reports {
            let subject = all.next().await.unwrap().subject.to_string();
            heard += u64::from(subject == format!("$KV.{REPLICAS_BUCKET}.r"));
            if subject.contains(TRAFFIC_BUCKET) {
                about.push(subject);
            }
        }
        about
    };
    // It reports every 500 ms; the controller compares all tables every 3 s.
    let idle = about_tables(20).await;
    // The replica and the controller each ask every 10 s which bucket there is.
    assert!(idle.len() <= 4, "{idle:?}");
    assert_eq!(world.written(TRAFFIC_BUCKET).await.1, created);
    assert!(!about_tables(1).await.is_empty(), "what is asked is counted");

    // One change, one table.
    world.call(&at, Method::PUT, "deployments/d-7/kill-switch", json!({})).await;
    assert_eq!(world.written(TRAFFIC_BUCKET).await.1, created + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_deployments_leave_nothing_in_the_bucket() {
    let (world, at) = World::deployed().await;
    let (before, _) = world.written(TRAFFIC_BUCKET).await;
    world.deploy(&at, &names()).await;
    for name in names() {
        world.call(&at, Method::DELETE, &format!("deployments/{name}"), Value::Null).await;
    }
    let started = Instant::now();
    let limit = Duration::from_secs(3 * TABLE_MARKER_MAX_AGE_S);
    while world.written(TRAFFIC_BUCKET).await.0 > before {
        assert!(started.elapsed() < limit, "{:?} entries are left", world.written(TRAFFIC_BUCKET).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // A name that was used before is free again.
    world.deploy(&at, &names()[..1]).await;
    let store = world.bus.bucket(TRAFFIC_BUCKET).await.unwrap();
    assert!(store.get("d-0").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_is_named_and_holds_a_rollout_no_longer_than_its_lease() {
    let (world, at) = World::deployed().await;
    let other = world.another_replica("hung");
    let acknowledged = async |mode: &str| {
        let body = json!({ "mode": mode });
        world.call(&at, Method::PUT, "deployments/d/kill-switch", body).await["acknowledgement"].clone()
    };
    let started = Instant::now();
    while acknowledged("refuse").await["followed"] != json!(["hung", "r"]) {
        assert!(started.elapsed() < Duration::from_secs(20), "the other replica is not heard");
    }
    world.call(&at, Method::DELETE, "deployments/d/kill-switch", json!({})).await;
    other.hang(true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let id = world.roll_out(&at, "2").await;
    let named = |shown: &Value| {
        let reason = shown["reason"].as_str().unwrap_or_default();
        reason.contains("replica `hung`") && reason.contains("has not reported since")
    };
    let mut shown = Value::Null;
    while !named(&shown) {
        shown = world.get(&at, &format!("rollouts/{id}")).await;
        assert!(shown["phase"] == "preparing" || named(&shown), "it was not waited for: {shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(shown["reason"].as_str().unwrap().contains("it is left out 5 s after that"), "{shown}");
    assert_eq!(shown["waiting_for"][0]["replica_id"], "hung", "{shown}");
    let deployment = world.get(&at, "deployments/d").await;
    let hung = deployment["replicas"].as_array().unwrap().iter().find(|one| one["replica_id"] == "hung");
    assert_eq!(hung.unwrap()["state"], "silent", "{deployment}");
    world.wait_for(&at, "2", "progressing").await;
    // Left out, it is still told of by commands: it may answer by an old table wherever it hangs.
    let told = acknowledged("stable-only").await;
    assert_eq!((&told["complete"], &told["followed"]), (&json!(false), &json!(["r"])), "{told}");
    assert_eq!(told["not_followed"][0]["replica_id"], "hung", "{told}");
    // Once it goes on, it counts again.
    other.hang(false);
    let started = Instant::now();
    while acknowledged("refuse").await["complete"] != true {
        assert!(started.elapsed() < Duration::from_secs(20), "the other replica does not come back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_is_acknowledged_by_every_replica() {
    let (world, at) = World::deployed().await;
    let _others = [world.another_replica("r-2"), world.another_replica("r-3")];
    let all = json!(["r", "r-2", "r-3"]);
    let started = Instant::now();
    let mut modes = ["refuse", "stable-only"].iter().cycle();
    loop {
        let body = json!({"mode": modes.next().unwrap()});
        let killed = world.call(&at, Method::PUT, "deployments/d/kill-switch", body).await;
        let told = &killed["acknowledgement"];
        if told["followed"] == all {
            assert_eq!(
                (&told["complete"], &told["table_revision"]),
                (&json!(true), &killed["traffic"]["revision"])
            );
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "not all replicas are heard: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_bucket_says_that_it_is_complete_after_its_last_table() {
    let (world, at) = World::deployed().await;
    world.deploy(&at, &names()[..10]).await;
    world.bus.jetstream().delete_key_value(TRAFFIC_BUCKET).await.unwrap();
    world.nats.kill().await;
    world.nats.start_again().await;
    let started = Instant::now();
    let head = loop {
        if let Ok(store) = world.bus.jetstream().get_key_value(TRAFFIC_BUCKET).await
            && let Ok(Some(head)) = store.entry(TABLES_HEAD_KEY).await
        {
            break head;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "the bucket stays incomplete");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let store = world.bus.bucket(TRAFFIC_BUCKET).await.unwrap();
    for name in names()[..10].iter().map(String::as_str).chain(["d"]) {
        let table = store.entry(name).await.unwrap().unwrap();
        assert!(table.revision < head.revision, "{name}");
    }
}
