//! Postgres goes away and comes back.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::world::World;

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
