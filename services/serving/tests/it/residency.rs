//! More models than memory, and versions that stay for a rollback.

use std::path::Path;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::serving::{Serving, cache, point};
use crate::world::{World, eventually, fixture, table};

/// Requests that find a version unloaded at the same time.
const CROWD: usize = 100;

fn put(folder: &Path, model: &str, file: &str) {
    let version = folder.join(model).join("1");
    std::fs::create_dir_all(&version).expect("the folder is made");
    std::fs::write(version.join("model.onnx"), fixture(file)).expect("the model is written");
}

/// The sum of a metric's values whose lines begin so.
async fn metric(serving: &Serving, begins: &str) -> f64 {
    let shown = serving.http.get(format!("{}/metrics", serving.metrics)).send().await.expect("metrics");
    let text = shown.text().await.expect("text");
    let lines = text.lines().filter(|line| line.starts_with(begins));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn loads(serving: &Serving) -> f64 {
    metric(serving, "slipway_serving_loads_total").await
}

/// The score that a model of a folder gives to a point in the middle.
async fn score(serving: &Serving, model: &str) -> (StatusCode, Value) {
    let (status, answer) = serving.post(&format!("/v2/models/{model}/infer"), &point([0.0, 0.0])).await;
    (status, answer["outputs"][0]["data"][0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_do_not_fit_together_are_loaded_when_they_are_asked_for_and_once() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    for (model, file) in [("minus", "linear_minus_one.onnx"), ("plus", "linear_plus_one.onnx")] {
        put(models.path(), model, file);
    }
    let folder = models.path().display().to_string();
    // Whatever is loaded takes more, so one is in memory at a time.
    let more = [("SLIPWAY_SERVING_MODEL_DIR", folder.as_str()), ("SLIPWAY_SERVING_MEMORY_LIMIT_BYTES", "1")];
    let serving = Serving::start(&world, &cache, &more).await;
    serving.wait_until_ready().await;
    for _ in 0..3 {
        assert_eq!(score(&serving, "minus").await, (StatusCode::OK, json!(-1.0)));
        assert_eq!(score(&serving, "plus").await, (StatusCode::OK, json!(1.0)));
    }
    // Unloaded, it is ready all the same, and says what it takes.
    assert_eq!(serving.get("/v2/models/minus/ready").await.0, StatusCode::OK);
    assert_eq!(serving.get("/v2/models/minus").await.1["inputs"][0]["name"], "x");
    let (_, index) = serving.post("/v2/repository/index", &json!({"ready": true})).await;
    let minus = index.as_array().unwrap().iter().find(|model| model["name"] == "minus").unwrap();
    assert_eq!(minus["state"], "READY");
    assert_eq!(minus["reason"], "unloaded to make room; the next request loads it again");
    assert_eq!(metric(&serving, "slipway_serving_model_memory_bytes{deployment=\"minus\"").await, 0.0);
    assert!(metric(&serving, "slipway_serving_model_memory_bytes{deployment=\"plus\"").await > 0.0);
    assert!(metric(&serving, "slipway_serving_unloads_total{reason=\"memory-limit\"}").await >= 6.0);
    let (_, config) = serving.get("/v2/models/minus/config").await;
    let bytes: u64 = config["parameters"]["memory_bytes"]["string_value"].as_str().unwrap().parse().unwrap();
    assert!(bytes > 0);

    let before = loads(&serving).await;
    let answers = join_all((0..CROWD).map(|_| score(&serving, "minus"))).await;
    assert!(answers.iter().all(|answer| *answer == (StatusCode::OK, json!(-1.0))), "{answers:?}");
    assert_eq!(loads(&serving).await - before, 1.0, "one load for all of them");

    // `load` brings one back before it is asked for.
    let (status, _) = serving.post("/v2/repository/models/plus/load", &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    eventually("it is loaded", || async { (loads(&serving).await - before == 2.0).then_some(()) }).await;

    // Requests that run when the other is wanted are answered, too.
    let mixed = join_all((0..CROWD).map(|at| {
        let model = if at % 2 == 0 { "minus" } else { "plus" };
        let serving = &serving;
        async move { (model, score(serving, model).await) }
    }));
    for (model, answer) in mixed.await {
        let expected = if model == "minus" { -1.0 } else { 1.0 };
        assert_eq!(answer, (StatusCode::OK, json!(expected)), "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_runs_is_not_unloaded() {
    /// Some seconds of work, as rows of one request.
    const ROWS: usize = 200;
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    for (model, file) in
        [("minus", "linear_minus_one.onnx"), ("plus", "linear_plus_one.onnx"), ("slow", "slow.onnx")]
    {
        put(models.path(), model, file);
    }
    let folder = models.path().display().to_string();
    let more = [("SLIPWAY_SERVING_MODEL_DIR", folder.as_str()), ("SLIPWAY_SERVING_MEMORY_LIMIT_BYTES", "1")];
    let serving = Serving::start(&world, &cache, &more).await;
    serving.wait_until_ready().await;
    // Which unloads the slow one.
    assert_eq!(score(&serving, "plus").await.0, StatusCode::OK);
    assert_eq!(score(&serving, "minus").await.0, StatusCode::OK);
    let column = |name: &str, datatype: &str, value: Value| {
        json!({"name": name, "shape": [ROWS, 1], "datatype": datatype,
            "data": vec![value; ROWS]})
    };
    let mut flags = column("flags", "BOOL", json!(true));
    flags["shape"] = json!([ROWS]);
    let body = json!({"inputs": [
        column("x", "FP32", json!(1.0)),
        column("numbers", "INT64", json!(1)),
        column("text", "BYTES", json!("a")),
        flags,
    ]});
    let (serving_ref, done) = (&serving, std::sync::atomic::AtomicBool::new(false));
    let slow = async {
        let answered = serving_ref.post("/v2/models/slow/infer", &body).await;
        done.store(true, std::sync::atomic::Ordering::Release);
        answered
    };
    // Once it is loaded it runs, and stays while the others come and go.
    let others = async {
        let slow_bytes = || metric(serving_ref, "slipway_serving_model_memory_bytes{deployment=\"slow\"");
        eventually("the slow one is loaded", || async { (slow_bytes().await > 0.0).then_some(()) }).await;
        let mut rounds = 0;
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            for model in ["minus", "plus"] {
                assert_eq!(score(serving_ref, model).await.0, StatusCode::OK);
            }
            let bytes = slow_bytes().await;
            assert!(
                bytes > 0.0 || done.load(std::sync::atomic::Ordering::Acquire),
                "it was unloaded while it ran"
            );
            rounds += 1;
        }
        rounds
    };
    let ((status, answer), rounds) = tokio::join!(slow, others);
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(rounds > 0, "the others had no time to come");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_the_registry_come_back_from_the_disk_while_everything_is_away() {
    let (world, cache) = (World::start().await, cache());
    let serving = Serving::ready_with_room_for_one(&world, &cache).await;
    world.registry.stop();
    world.nats.kill().await;
    let before = loads(&serving).await;
    for (version, expected) in [("1", -1.0), ("2", 1.0), ("1", -1.0), ("2", 1.0)] {
        let path = format!("/v2/models/points/versions/{version}/infer");
        let (status, answer) = serving.post(&path, &point([0.0, 0.0])).await;
        assert_eq!(
            (status, &answer["outputs"][0]["data"][0]),
            (StatusCode::OK, &json!(expected)),
            "{answer}"
        );
    }
    assert!(loads(&serving).await - before >= 3.0);
    // A client that cannot wait for the load is told so.
    let hurried = json!({"parameters": {"timeout": 1}, "inputs": point([0.0, 0.0])["inputs"]});
    let (status, answer) = serving.post("/v2/models/points/versions/1/infer", &hurried).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_loads_nothing_and_what_is_not_kept_goes() {
    let (world, cache) = (World::start().await, cache());
    let mut versions = Vec::new();
    for (version, file) in
        [("1", "linear_minus_one.onnx"), ("2", "linear_plus_one.onnx"), ("3", "centred.onnx")]
    {
        versions.push(world.version(version, file).await);
    }
    world.put(&table(1, &versions[0])).await;
    let serving = Serving::ready(&world, &cache).await;
    world.put(&table(2, &versions[1])).await;
    world.routed(2).await;
    assert_eq!(loads(&serving).await, 2.0);
    // Nothing that a load would need is there any more.
    world.registry.stop();
    std::fs::remove_dir_all(cache.path().join("serving/blobs")).unwrap();
    world.put(&table(3, &versions[0])).await;
    world.routed(3).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    assert_eq!(loads(&serving).await, 2.0);
    // It is no longer the clients' to name.
    let (status, _) = serving.post("/v2/models/points/versions/2/infer", &point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        metric(&serving, "slipway_serving_model_memory_bytes{deployment=\"points\",version=\"2\"}").await
            > 0.0
    );

    world.registry.start_again().await;
    std::fs::create_dir_all(cache.path().join("serving/blobs")).unwrap();
    world.put(&table(4, &versions[2])).await;
    world.routed(4).await;
    // One is kept: the one before.
    eventually("version 2 goes", || async {
        let gone = metric(&serving, "slipway_serving_unloads_total{reason=\"unwanted\"}").await;
        (gone == 1.0).then_some(())
    })
    .await;
    world.put(&table(5, &versions[0])).await;
    world.routed(5).await;
    assert_eq!((serving.predict([0.0, 0.0]).await.version.as_str(), loads(&serving).await), ("1", 3.0));
}
