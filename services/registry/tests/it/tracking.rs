//! Runs, params, metrics, searches: what clients rely on.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_is_found_again() {
    let world = World::begin().await;
    let run = world.run().await;
    let metric = |value: serde_json::Value, step: i64| json!({"run_id": run, "key": "loss", "value": value, "timestamp": 5, "step": step});
    for (value, step) in
        [(json!(0.5), 1), (json!("NaN"), 2), (json!("Infinity"), 3), (json!(0.25), 4), (json!(0.25), 4)]
    {
        world.post("runs/log-metric", metric(value, step)).await;
    }
    world.post("runs/log-parameter", json!({"run_id": run, "key": "lr", "value": "0.1"})).await;
    world.post("runs/log-parameter", json!({"run_id": run, "key": "lr", "value": "0.1"})).await;
    let changed = json!({"run_id": run, "key": "lr", "value": "0.2"});
    world
        .refused(
            Method::POST,
            "runs/log-parameter",
            changed,
            "INVALID_PARAMETER_VALUE",
            "Changing param values",
        )
        .await;
    let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
    assert_eq!(
        found["run"]["data"]["metrics"],
        json!([{"key": "loss", "value": 0.25, "timestamp": 5, "step": 4}])
    );
    assert_eq!(found["run"]["data"]["params"], json!([{"key": "lr", "value": "0.1"}]));
    let history = world
        .get(&format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss&max_results=2"))
        .await;
    assert_eq!(history["metrics"][1]["value"], "NaN");
    let token = history["next_page_token"].as_str().unwrap();
    let rest = world
        .get(&format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss&page_token={token}"))
        .await;
    let steps: Vec<i64> =
        rest["metrics"].as_array().unwrap().iter().map(|point| point["step"].as_i64().unwrap()).collect();
    assert_eq!(steps, [3, 4], "a repeated point is one point, and a page goes on where the last one ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_logs_nothing() {
    let world = World::begin().await;
    let run = world.run().await;
    let batch = json!({"run_id": run, "metrics": [{"key": "a", "value": 1, "timestamp": 1}],
        "params": [{"key": "../x", "value": "1"}], "tags": []});
    world.refused(Method::POST, "runs/log-batch", batch, "INVALID_PARAMETER_VALUE", "params[0].key").await;
    let many: Vec<_> =
        (0..1001).map(|step| json!({"key": "a", "value": 1, "timestamp": 1, "step": step})).collect();
    let batch = json!({"run_id": run, "metrics": many});
    world
        .refused(Method::POST, "runs/log-batch", batch, "INVALID_PARAMETER_VALUE", "at most 1000 metrics")
        .await;
    let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
    assert_eq!(found["run"]["data"].get("metrics"), None);
    world.post("runs/delete", json!({ "run_id": run })).await;
    let late = json!({"run_id": run, "key": "a", "value": "1"});
    world
        .refused(
            Method::POST,
            "runs/set-tag",
            late,
            "INVALID_PARAMETER_VALUE",
            "must be in the 'active' state",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_filter_order_and_page() {
    let world = World::begin().await;
    for number in 0..5 {
        let tags = json!([{"key": "parity", "value": if number % 2 == 0 { "even" } else { "odd" }}]);
        let body = json!({"experiment_id": "0", "run_name": format!("r{number}"), "start_time": number, "tags": tags});
        let made = world.post("runs/create", body).await;
        let metric = json!({"run_id": made["run"]["info"]["run_id"], "key": "score", "value": 10 - number, "timestamp": 1});
        world.post("runs/log-metric", metric).await;
    }
    let search = |token: &str| {
        json!({"experiment_ids": ["0"], "filter": "tags.parity = 'even' and metrics.score > 6",
        "order_by": ["metrics.score ASC"], "max_results": 1, "page_token": token})
    };
    let name = |answer: &serde_json::Value| answer["runs"][0]["info"]["run_name"].clone();
    let first = world.post("runs/search", search("")).await;
    let token = first["next_page_token"].as_str().unwrap();
    let second = world.post("runs/search", search(token)).await;
    assert_eq!((name(&first), name(&second)), (json!("r2"), json!("r0")));
    assert_eq!(second.get("next_page_token"), None);
    let other = json!({"experiment_ids": ["0"], "page_token": token});
    world.refused(Method::POST, "runs/search", other, "INVALID_PARAMETER_VALUE", "another filter").await;
    let broken = json!({"experiment_ids": ["0"], "filter": "tags.a = 'x' OR tags.b = 'y'"});
    world.refused(Method::POST, "runs/search", broken, "INVALID_PARAMETER_VALUE", "position").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_says_so_in_mlflows_shape() {
    let world = World::begin().await;
    let (status, answer) = world.try_call(Method::POST, "gateway/routes", json!({})).await;
    assert_eq!((status, &answer["error_code"]), (StatusCode::NOT_FOUND, &json!("ENDPOINT_NOT_FOUND")));
    let response = world.raw(Method::POST, "/api/2.0/mlflow/runs/create", "{\"experiment_id\": ").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(response.text().await.unwrap().contains("not valid JSON"));
    let missing = json!({"experiment_id": "999"});
    world.refused(Method::POST, "runs/create", missing, "RESOURCE_DOES_NOT_EXIST", "999").await;
}
