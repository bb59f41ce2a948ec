//! No request is answered by an old traffic table, except where the current one cannot be had, and then the
//! replica says so.

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::traffic::{REPLICAS_BUCKET, TRAFFIC_BUCKET, TablesState, TrafficTable};

use crate::serving::{Serving, cache, point};
use crate::world::{DEPLOYMENT, World, complete, eventually, table};

/// Long enough that no test sees its end.
const LONG_WAIT: (&str, &str) = ("SLIPWAY_SERVING_TABLES_WAIT_MS", "600000");
const SHORT_WAIT: (&str, &str) = ("SLIPWAY_SERVING_TABLES_WAIT_MS", "1500");

/// A replica of version 1 that was killed before version 2 took over.
async fn left_behind(cache: &tempfile::TempDir) -> World {
    let world = World::start().await;
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&table(1, &first)).await;
    let mut serving = Serving::ready(&world, cache).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    serving.kill();
    world.put(&table(2, &second)).await;
    world
}

async fn tables_state(world: &World, replica: &str) -> Option<TablesState> {
    let statuses = world.statuses().await;
    statuses.into_iter().find(|status| status.replica_id == replica).map(|status| status.tables)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_in_an_outage_answers_nothing_old() {
    let cache = cache();
    let world = left_behind(&cache).await;
    world.nats.kill().await;
    let serving = Serving::start(&world, &cache, &[LONG_WAIT]).await;
    let (status, waiting) = serving.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let told = waiting["waiting_for"]["traffic-tables"].as_str().unwrap();
    assert!(told.contains("used after 600000 ms"), "{waiting}");
    let (status, body) = serving.infer(&point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body["error"].as_str().unwrap().contains("reading the current traffic tables"), "{body}");
    let path = format!("/v1/models/{DEPLOYMENT}:predict");
    let (status, body) = serving.post(&path, &json!({"instances": [[0.0, 0.0]]})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(serving.shown().await.contains("slipway_serving_tables_current 0"));

    world.nats.start_again().await;
    let answers = answers_until(&serving, "2").await;
    assert!(answers.iter().all(|version| version == "2"), "{answers:?}");
    serving.wait_until_ready().await;
    assert!(serving.shown().await.contains("slipway_serving_tables_current 1"));
}

/// Versions that answered, up to the first answer by `version`.
async fn answers_until(serving: &Serving, version: &str) -> Vec<String> {
    let mut answers = Vec::new();
    for _ in 0..3_000 {
        if answers.last().is_some_and(|last| last == version) {
            break;
        }
        let (status, body) = serving.infer(&point([0.0, 0.0])).await;
        if status == StatusCode::OK {
            answers.push(body["model_version"].as_str().expect("a version").to_owned());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(answers.last().is_some_and(|last| last == version), "{version} never answered: {answers:?}");
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_stated_time_the_last_tables_answer_and_everybody_is_told() {
    let cache = cache();
    let world = left_behind(&cache).await;
    world.nats.kill().await;
    let settings = [SHORT_WAIT, ("SLIPWAY_REPLICA_ID", "behind")];
    let serving = Serving::start(&world, &cache, &settings).await;
    serving.wait_until_ready().await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    let (_, ready) = serving.get("/readyz").await;
    let told = ready["notes"]["traffic-tables"].as_str().unwrap_or_default();
    assert!(told.contains("last known") && told.contains("never since the start"), "{ready}");
    let metrics = serving.shown().await;
    assert!(metrics.contains("slipway_serving_tables_current 0"), "{metrics}");
    assert!(!metrics.contains("slipway_serving_tables_unconfirmed_seconds 0.0\n"), "{metrics}");

    world.nats.start_again().await;
    answers_until(&serving, "2").await;
    eventually("it is current, and says so", || async {
        let (_, ready) = serving.get("/readyz").await;
        let is_current = tables_state(&world, "behind").await == Some(TablesState::Current);
        (ready["notes"] == Value::Null && is_current).then_some(())
    })
    .await;
    assert!(serving.shown().await.contains("slipway_serving_tables_unconfirmed_seconds 0.0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_fails_no_request_and_is_told_with_its_beginning() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    world.nats.kill().await;
    let mut noted = Value::Null;
    for _ in 0..3_000 {
        assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
        let (status, ready) = serving.get("/readyz").await;
        assert_eq!(status, StatusCode::OK, "{ready}");
        noted = ready["notes"]["traffic-tables"].clone();
        if noted != Value::Null {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = noted.as_str().unwrap_or_default();
    assert!(told.contains("last known to be current at ") && told.contains("UTC"), "{noted}");
    assert!(serving.shown().await.contains("slipway_serving_tables_current 0"));
    world.nats.start_again().await;
    eventually("it is current again", || async {
        assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
        serving.shown().await.contains("slipway_serving_tables_current 1").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_reads_the_tables_before_it_answers() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&table(1, &first)).await;
    let serving = Serving::start(&world, &cache, &[LONG_WAIT]).await;
    serving.wait_until_ready().await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    // Both versions are there, so that nothing but the table decides.
    world.put(&TrafficTable { warm: vec![second.clone()], ..table(2, &first) }).await;
    world.routed(2).await;
    serving.hang(true);
    world.put(&TrafficTable { warm: vec![first], ..table(3, &second) }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // It wakes up to requests that wait already, and more of them.
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let request = serving.http.post(serving.url(&format!("/v2/models/{DEPLOYMENT}/infer")));
            tokio::spawn(request.json(&point([0.0, 0.0])).send())
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    serving.hang(false);
    for answer in asked {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["model_version"], "2", "{body}");
    }
    assert!(serving.log().contains("process stood still"), "{}", serving.log());
    // Without NATS it waits, and does not answer.
    serving.hang(true);
    world.nats.kill().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    serving.hang(false);
    let (status, body) = serving.infer(&point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert_eq!(serving.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    world.nats.start_again().await;
    serving.wait_until_ready().await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_lost_deletes_nothing_and_one_that_is_complete_does() {
    let (world, cache) = (World::start().await, cache());
    let first = world.version("1", "linear_minus_one.onnx").await;
    world.put(&table(1, &first)).await;
    let other = TrafficTable { stable: Some(first.clone()), ..TrafficTable::empty("other", DEPLOYMENT) };
    world.put(&other).await;
    let mut serving = Serving::ready(&world, &cache).await;
    let other = "/v2/models/other/infer";
    assert_eq!(serving.post(other, &point([0.0, 0.0])).await.0, StatusCode::OK);

    // The server loses what it stored, and the controller has not written it again.
    world.bus.jetstream().delete_key_value(TRAFFIC_BUCKET).await.unwrap();
    world.nats.kill().await;
    world.nats.start_again().await;
    eventually("the replica reads the empty bucket", || async {
        world
            .statuses()
            .await
            .iter()
            .any(|status| {
                matches!(status.tables, TablesState::LastKnown { .. })
                    && status.position.is_some_and(|position| position.revision == 0)
            })
            .then_some(())
    })
    .await;
    assert_eq!(serving.post(other, &point([0.0, 0.0])).await.0, StatusCode::OK);
    serving.predict([0.0, 0.0]).await;

    // Written again, without the other deployment, which was deleted while nobody could be told.
    world.put(&table(1, &first)).await;
    complete(&world.bus).await;
    eventually("the deleted deployment is gone", || async {
        (serving.post(other, &point([0.0, 0.0])).await.0 == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    serving.predict([0.0, 0.0]).await;
    serving.kill();
    drop(serving);
    // It is not in the cache either.
    world.nats.kill().await;
    let serving = Serving::start(&world, &cache, &[SHORT_WAIT]).await;
    serving.wait_until_ready().await;
    serving.predict([0.0, 0.0]).await;
    assert_eq!(serving.post(other, &point([0.0, 0.0])).await.0, StatusCode::NOT_FOUND);
}

/// Subjects of messages that are no replies, deliveries or acknowledgements: each of those belongs to one
/// that is counted.
async fn next_subject(all: &mut async_nats::Subscriber) -> String {
    loop {
        let subject = all.next().await.expect("the subscription stands").subject.to_string();
        if !["_INBOX", "$JS.ACK"].iter().any(|prefix| subject.starts_with(prefix)) {
            return subject;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_replica_sends_one_message_a_second_however_many_deployments_there_are() {
    const DEPLOYMENTS: u64 = 300;
    const STATUSES: u64 = 6;
    let (world, cache) = (World::start().await, cache());
    let first = world.version("1", "linear_minus_one.onnx").await;
    for number in 0..DEPLOYMENTS {
        let name = format!("d-{number}");
        let table = TrafficTable { stable: Some(first.clone()), ..TrafficTable::empty(name, DEPLOYMENT) };
        world.put(&table).await;
    }
    world.put(&table(1, &first)).await;
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_REPLICA_ID", "r")]).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    let mut all = world.bus.client().subscribe(">").await.unwrap();
    world.bus.client().flush().await.unwrap();
    let status_subject = format!("$KV.{REPLICAS_BUCKET}.r");

    // From one status to another, nothing else is sent, except a question about the bucket every 10 s.
    while next_subject(&mut all).await != status_subject {}
    let begins_unix_ms = world.statuses().await[0].at_unix_ms;
    while next_subject(&mut all).await != status_subject {}
    let (mut statuses, mut others) = (0, Vec::new());
    while statuses < STATUSES {
        let subject = next_subject(&mut all).await;
        if subject == status_subject { statuses += 1 } else { others.push(subject) }
    }
    // The connection of this test asks whether JetStream answers, every 2.5 s at most, and NATS tells of it.
    // On a busy machine, what this test asked for above may come after a status that was late.
    let questions = [
        "$JS.API.STREAM.INFO.SLIPWAY_EVENTS",
        "$JS.EVENT.ADVISORY.API",
        &format!("$JS.API.DIRECT.GET.KV_{REPLICAS_BUCKET}.{status_subject}"),
    ];
    let of_test = others.iter().filter(|subject| questions.contains(&subject.as_str())).count();
    assert!(of_test <= 3 * 2 + 1 && others.len() - of_test <= 1, "{others:?}");
    let status = world.statuses().await.remove(0);
    let lasted_ms = status.at_unix_ms - begins_unix_ms;
    // The first of them may have been the second by the time it was read.
    assert!(lasted_ms >= 1_000 * (STATUSES - 1), "{} statuses in {lasted_ms} ms", STATUSES + 1);
    // It stays small: it lists nothing that is as it should be.
    assert_eq!(status.unsettled, []);

    // A change is one table and at most two statuses: that of the change, and one that was due anyway.
    let written = async |bucket: &str| {
        let mut stream = world.bus.jetstream().get_stream(format!("KV_{bucket}")).await.unwrap();
        stream.info().await.unwrap().state.last_sequence
    };
    let before = written(REPLICAS_BUCKET).await;
    for revision in 2..=11 {
        world.put(&table(revision, &first)).await;
        world.routed(revision).await;
    }
    let changed = written(REPLICAS_BUCKET).await - before;
    assert!((10..=20).contains(&changed), "{changed} statuses for 10 changes");
}
