//! Traffic follows the table: weights, sticky users, rollback, and what replaces what is not ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use slipway_api::predictions::Variant;
use slipway_api::traffic::{StickyKey, TrafficTable, VersionState, Weighted};

use crate::serving::{Serving, cache};
use crate::world::{World, canary, table};

const USERS: usize = 300;
/// Traffic before and after a rollback.
const TRAFFIC_MS: u64 = 300;

async fn versions_of_users(serving: &Serving) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    for user in 0..USERS {
        let user = format!("user-{user}");
        let answered = serving.predict_for(Some(&user), [0.0, 0.0]).await;
        versions.insert(user, answered.version);
    }
    versions
}

fn share(versions: impl Iterator<Item = String>, version: &str) -> f64 {
    let all: Vec<String> = versions.collect();
    all.iter().filter(|known| *known == version).count() as f64 / all.len() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_split_the_traffic_and_users_stay_where_they_are() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&canary(1, &first, &second, 30)).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    let mut drawn = Vec::new();
    for _ in 0..600 {
        let answered = serving.predict([0.0, 0.0]).await;
        assert_eq!(
            answered.label,
            if answered.version == "1" { 0 } else { 1 },
            "the version named is the one that answered"
        );
        drawn.push(answered.version);
    }
    let canary_share = share(drawn.into_iter(), "2");
    assert!((canary_share - 0.3).abs() < 0.09, "30 percent became {canary_share}");

    let sticky = |revision, weight| TrafficTable {
        sticky_key: Some(StickyKey { header: "X-User".into() }),
        ..canary(revision, &first, &second, weight)
    };
    world.put(&sticky(2, 30)).await;
    world.routed(2).await;
    let users = versions_of_users(&serving).await;
    assert_eq!(versions_of_users(&serving).await, users);
    let canary_share = share(users.values().cloned(), "2");
    assert!((canary_share - 0.3).abs() < 0.12, "30 percent of users became {canary_share}");
    let replica = Serving::ready(&world, &crate::serving::cache()).await;
    assert_eq!(versions_of_users(&replica).await, users, "another replica sends each user the same way");
    world.put(&sticky(3, 60)).await;
    world.routed(3).await;
    let later = versions_of_users(&serving).await;
    assert!(
        users.iter().all(|(user, version)| version == "1" || later[user] == "2"),
        "nobody leaves a growing canary"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_reaches_every_request_at_once_and_fails_none() {
    let (world, cache) = (World::start().await, cache());
    let (good, bad) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    let promoted = TrafficTable { warm: vec![good.clone()], ..table(1, &bad) };
    world.put(&promoted).await;
    let serving = Arc::new(Serving::ready(&world, &cache).await);
    world.routed(1).await;
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = tokio::spawn({
        let (serving, stop) = (Arc::clone(&serving), Arc::clone(&stop));
        async move {
            let mut answers = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let sent = Instant::now();
                let answered = serving.predict([0.0, 0.0]).await;
                answers.push((sent, answered.version));
            }
            answers
        }
    });
    tokio::time::sleep(Duration::from_millis(TRAFFIC_MS)).await;
    world.put(&TrafficTable { warm: vec![bad], ..table(2, &good) }).await;
    world.routed(2).await;
    let told = Instant::now();
    tokio::time::sleep(Duration::from_millis(TRAFFIC_MS)).await;
    stop.store(true, Ordering::Relaxed);
    let answers = traffic.await.unwrap();
    let first_good = answers.iter().position(|(_, version)| version == "1").unwrap();
    let (before, after) = answers.split_at(first_good);
    assert!(!before.is_empty() && before.iter().all(|(_, version)| version == "2"));
    assert!(after.iter().all(|(_, version)| version == "1"), "the bad version is gone for good");
    assert!(before.iter().all(|(sent, _)| *sent < told), "and gone for all once the status says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_waits_for_its_stable_version_and_a_candidate_for_its_own() {
    let (world, cache) = (World::start().await, cache());
    let first = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &first)).await;
    let serving = Serving::ready(&world, &cache).await;
    // A version that the registry does not know yet would fail; one that is not fetched yet is loading.
    let second = world.version("2", "linear_plus_one.onnx").await;
    world.registry.stop();
    let replica_cache = crate::serving::cache();
    let replica = Serving::start(&world, &replica_cache, &[("SLIPWAY_REPLICA_ID", "late")]).await;
    world.put(&canary(2, &first, &second, 50)).await;
    // The late replica cannot load anything: it says what it waits for, and answers 503 rather than 404.
    let status = world.status("the late replica waits", |status| status.replica_id == "late").await;
    assert!(status.versions.iter().all(|version| version.state == VersionState::Loading));
    let (code, body) = replica.infer(&crate::serving::point([0.0, 0.0])).await;
    assert_eq!(code, 503, "{body}");
    let (code, waiting) = replica.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(waiting["waiting_for"]["models"].as_str().unwrap().contains("points/1"), "{waiting}");

    world.registry.start_again().await;
    replica.wait_until_ready().await;
    world.routed(2).await;
    assert_eq!(replica.get("/readyz").await.0, 200);
    drop(replica);
    serving.predict([0.0, 0.0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_fails_on_requests_costs_no_answer() {
    let (world, cache) = (World::start().await, cache());
    let (stable, candidate) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "gather.onnx").await);
    let all = vec![Weighted { target: candidate.clone(), weight_percent: 100 }];
    world.put(&TrafficTable { candidates: all, ..table(1, &stable) }).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    for _ in 0..20 {
        assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    }
    let failures = world
        .records("the candidate's failures", |records| {
            records.iter().filter(|record| record.variant == Variant::Candidate).count() == 20
        })
        .await;
    assert!(failures.iter().filter(|record| record.version == "2").all(|record| record.error.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_of_the_model_loads_nothing_and_fails_nothing() {
    let (world, cache) = (World::start().await, cache());
    let first = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &first)).await;
    let serving = Arc::new(Serving::ready(&world, &cache).await);
    world.routed(1).await;
    let loads = async || {
        let shown = serving.shown().await;
        shown
            .lines()
            .filter(|line| line.contains("serving_loads_total"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = loads().await;
    assert!(!before.is_empty(), "there is a counter of loads");
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = tokio::spawn({
        let (serving, stop) = (Arc::clone(&serving), Arc::clone(&stop));
        async move {
            let mut answers = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
                answers += 1;
            }
            answers
        }
    });
    world.put(&TrafficTable { model: "renamed".into(), ..table(2, &first) }).await;
    world.routed(2).await;
    stop.store(true, Ordering::Relaxed);
    assert!(traffic.await.expect("no request failed") > 0);
    assert_eq!(loads().await, before, "nothing was loaded again");
    let renamed = |record: &slipway_api::predictions::PredictionRecord| record.model == "renamed";
    serving.predict([0.0, 0.0]).await;
    world.records("a record with the new name", |records| records.iter().any(renamed)).await;
}
