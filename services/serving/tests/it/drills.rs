//! Fault drills: copies of requests fail and users' requests do not, unless the table says otherwise.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use slipway_api::traffic::{Drill, DrillCounts, DrillTarget, Fault, Target, TrafficTable};

use crate::serving::{Serving, cache, point};
use crate::world::{DEPLOYMENT, World, eventually, table};

const HOUR: Duration = Duration::from_secs(3_600);

/// A table with a drill that lasts this long.
fn drilled(
    revision: u64,
    stable: &Target,
    fault: Fault,
    target: DrillTarget,
    lasts: Duration,
) -> TrafficTable {
    let ends = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + lasts;
    let drill = Drill {
        id: format!("drill-{revision}"),
        fault: Some(fault),
        replay: None,
        target,
        percent: 100,
        ends_at_unix_ms: u64::try_from(ends.as_millis()).expect("it fits"),
    };
    TrafficTable { drill: Some(drill), ..table(revision, stable) }
}

/// Waits until the replica has counted that many requests of a drill.
async fn counted(world: &World, drill_id: &str, requests: u64) -> DrillCounts {
    eventually("the replica reports the drill", async || {
        let statuses = world.statuses().await;
        let mut reports = statuses.into_iter().flat_map(|status| status.drills);
        let report = reports.find(|report| report.drill_id == drill_id)?;
        let dropped: u64 = report.counts.dropped.iter().map(|dropped| dropped.count).sum();
        let seen = &report.counts.rehearsed;
        (seen.answered + seen.failures() + dropped == requests).then_some(report.counts)
    })
    .await
}

async fn answered(serving: &Serving, requests: usize) {
    for _ in 0..requests {
        let (status, body) = serving.infer(&point([0.0, 0.0])).await;
        assert_eq!((status, &body["model_version"]), (StatusCode::OK, &"1".into()), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_fail_as_the_real_failure_does_and_nothing_of_the_version_changes() {
    let (world, cache) = (World::start().await, cache());
    let stable = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &stable)).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    let faults = [
        (Fault::NotLoading, "failure", "does not load: the model does not load"),
        (Fault::OutOfMemory, "failure", "as it does when memory runs out"),
        (Fault::StorageGone, "overloaded", "was not loaded within 20000 ms"),
        (Fault::Errors, "failure", "the model failed: drill"),
        (Fault::Latency { added_ms: 45_000 }, "failure", "no answer from the model within 30000 ms"),
    ];
    for (revision, (fault, outcome, message)) in (2..).zip(faults) {
        world.put(&drilled(revision, &stable, fault, DrillTarget::Copies, HOUR)).await;
        world.routed(revision).await;
        answered(&serving, 10).await;
        let counts = counted(&world, &format!("drill-{revision}"), 10).await;
        assert_eq!((counts.users.answered, counts.users.failures()), (10, 0), "{counts:?}");
        let failed = &counts.rehearsed.failed[0];
        assert_eq!((failed.outcome.as_str(), counts.rehearsed.answered), (outcome, 0), "{counts:?}");
        assert!(failed.message.contains(message), "{failed:?}");
    }
    // Added latency is counted, and no copy waits for it.
    let slow = Fault::Latency { added_ms: 5_000 };
    world.put(&drilled(7, &stable, slow, DrillTarget::Copies, HOUR)).await;
    world.routed(7).await;
    answered(&serving, 10).await;
    let counts = counted(&world, "drill-7", 10).await;
    assert!(counts.rehearsed.latencies.percentile_us(50) > 4_500_000, "{counts:?}");
    assert!(counts.users.latencies.percentile_us(99) < 4_500_000, "{counts:?}");
    assert_eq!((counts.compared_rows, counts.differing_rows), (counts.rehearsed.answered, 0));

    let (_, stats) = serving.get(&format!("/v2/models/{DEPLOYMENT}/stats")).await;
    let stats = &stats["model_stats"][0]["inference_stats"];
    assert_eq!((&stats["success"]["count"], &stats["fail"]["count"]), (&60.into(), &0.into()), "{stats}");
    let shown = serving.shown().await;
    let failed = "slipway_serving_drill_requests_total{deployment=\"points\",fault=\"errors\",\
        target=\"copies\",outcome=\"failure\"}";
    assert!(shown.contains(failed), "{shown}");
    assert!(!shown.contains("version=\"1\",variant=\"stable\",outcome=\"failure\""), "{shown}");
    let records = world.records("the records of all requests", |records| records.len() >= 60).await;
    assert!(records.iter().all(|record| record.error.is_none() && record.shadow_of.is_none()));
    assert_eq!(records.len(), 60, "copies leave no record");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_meet_a_fault_against_answers_until_its_end_and_no_longer() {
    let (world, cache) = (World::start().await, cache());
    let stable = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &stable)).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    let lasts = Duration::from_secs(4);
    world.put(&drilled(2, &stable, Fault::Errors, DrillTarget::Answers, lasts)).await;
    let refused = eventually("a request meets the fault", async || {
        let (status, body) = serving.infer(&point([0.0, 0.0])).await;
        (status == StatusCode::INTERNAL_SERVER_ERROR).then_some(body)
    });
    let refused = refused.await;
    assert_eq!(refused["error"], "the model failed: drill drill-2", "{refused}");
    // A client that names the version has not asked the deployment.
    let (status, _) = serving.post("/v2/models/points/versions/1/infer", &point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::OK);
    // The table stays as it is.
    let over = eventually("the drill is over", async || {
        let (status, _) = serving.infer(&point([0.0, 0.0])).await;
        (status == StatusCode::OK).then_some(())
    });
    over.await;
    answered(&serving, 5).await;
    let statuses = world.statuses().await;
    let counts = &statuses[0].drills[0].counts;
    assert!(counts.rehearsed.failures() > 0, "{counts:?}");
    let shown = serving.shown().await;
    let real = "slipway_serving_requests_total{deployment=\"points\",version=\"1\",variant=\"stable\",\
        outcome=\"failure\"}";
    assert!(shown.contains(real), "what users meet is counted as what it is: {shown}");
}
