//! Postgres or the artifact store goes away and comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::{MODEL, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_crash_of_postgres() {
    let postgres = slipway_testkit::own_postgres().await;
    let world = World::on(&postgres.url).await;
    let run = world.run().await;
    postgres.kill().await;
    let body = json!({"run_id": run, "key": "a", "value": "1"}).to_string();
    let response = world.raw(Method::POST, "/api/2.0/mlflow/runs/set-tag", body.clone()).await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert!(response.text().await.unwrap().contains("TEMPORARILY_UNAVAILABLE"));
    postgres.start_again().await;
    let started = Instant::now();
    while !world.raw(Method::POST, "/api/2.0/mlflow/runs/set-tag", body.clone()).await.status().is_success() {
        assert!(started.elapsed() < Duration::from_secs(30), "the registry does not recover");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
    assert!(found["run"]["data"]["tags"].to_string().contains("\"a\""), "{found}");
    let events = world.events("slipway.registry.run", 2).await;
    assert_eq!(events.len(), 2, "created once, tagged once");
}

const WRITERS: usize = 6;

/// Sets one tag after the other until told to stop; those whose answer was good.
async fn write_tags(world: Arc<World>, run: String, writer: usize, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{writer}-{number}");
        let body = json!({"run_id": run, "key": key, "value": "x"}).to_string();
        let answer = world.raw(Method::POST, "/api/2.0/mlflow/runs/set-tag", body).await;
        if answer.status() == StatusCode::OK {
            acknowledged.push(key);
        } else {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers().contains_key("retry-after"));
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_and_its_event_outlive_a_crash_under_load() {
    let postgres = slipway_testkit::own_postgres().await;
    let world = Arc::new(World::on(&postgres.url).await);
    let run = world.run().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write_tags(Arc::clone(&world), run.clone(), writer, Arc::clone(&stop))))
        .collect();
    for _ in 0..2 {
        world.wait_for_tags(&run, WRITERS).await;
        postgres.kill().await;
        postgres.start_again().await;
        world
            .post_until_it_goes_well("runs/set-tag", json!({"run_id": run, "key": "back", "value": "x"}))
            .await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!(acknowledged.len() > WRITERS, "the writers got somewhere: {}", acknowledged.len());
    let stored: BTreeSet<String> = world.tags(&run).await;
    let lost: Vec<&String> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");

    // Each tag is told of once, alone or with others that were set at the same time; "back" was set more than
    // once.
    let started = Instant::now();
    loop {
        let mut told = BTreeSet::new();
        for event in world.events("slipway.registry.run.", 1).await {
            let body: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            for key in body["details"]["tags"].as_array().into_iter().flatten() {
                let key = key.as_str().unwrap();
                assert!(key == "back" || told.insert(key.to_owned()), "'{key}' was told of twice");
            }
        }
        let silent: Vec<&String> = acknowledged.difference(&told).collect();
        if silent.is_empty() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "acknowledged, and nobody was told: {silent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_artifact_store_files_wait_and_everything_else_goes_on() {
    let (world, line) = World::with_line_to_store().await;
    let model = world.onnx_model(MODEL).await;
    let _ = world.post("registered-models/create", json!({"name": "m"})).await;
    line.cut();

    let (status, text) = world.put_file("1/r/artifacts/a.bin", b"while it is away").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    let away = world.file(&format!("0/models/{model}/artifacts/model.onnx")).await;
    assert_eq!(away.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(away.headers().contains_key("retry-after"));
    let (status, answer) = world.version("m", &model).await;
    assert_eq!(
        (status, &answer["error_code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("TEMPORARILY_UNAVAILABLE"))
    );
    let run = world.run().await;
    world.post("runs/log-metric", json!({"run_id": run, "key": "loss", "value": 0.5, "timestamp": 1})).await;

    line.mend();
    assert_eq!(world.file("1/r/artifacts/a.bin").await.status(), StatusCode::NOT_FOUND, "nothing half-made");
    assert_eq!(world.put_file("1/r/artifacts/a.bin", b"afterwards").await.0, StatusCode::OK);
    assert_eq!(world.file("1/r/artifacts/a.bin").await.text().await.unwrap(), "afterwards");
    let (status, answer) = world.version("m", &model).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["model_version"]["version"], "1", "no number was used up: {answer}");
}
