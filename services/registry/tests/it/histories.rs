//! Histories and data sets as charts and comparisons read them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

async fn logged(world: &World, points: usize) -> String {
    let run = world.run().await;
    let metrics: Vec<Value> = (0..points)
        .map(|step| json!({"key": "loss", "value": step, "timestamp": 1_000 + step, "step": step}))
        .collect();
    world.post("runs/log-batch", json!({"run_id": run, "metrics": metrics})).await;
    run
}

fn steps(answer: &Value, run: &str) -> Vec<i64> {
    let points = answer["metrics"].as_array().into_iter().flatten();
    points.filter(|point| point["run_id"] == *run).map(|point| point["step"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_many_runs_come_whole_or_sampled() {
    let world = World::begin().await;
    let (long, short) = (logged(&world, 1_000).await, logged(&world, 3).await);
    let runs = |name: &str| format!("{name}={long}&{name}={short}&metric_key=loss");
    let metrics = "/ajax-api/2.0/mlflow/metrics";
    let whole = world.get(&format!("{metrics}/get-history-bulk?{}", runs("run_id"))).await;
    assert_eq!(steps(&whole, &long), (0..1_000).collect::<Vec<i64>>());
    assert_eq!(steps(&whole, &short), [0, 1, 2]);

    let interval = format!("{metrics}/get-history-bulk-interval?{}", runs("run_ids"));
    let sampled = world.get(&format!("{interval}&max_results=11")).await;
    assert_eq!(steps(&sampled, &long), [0, 91, 182, 273, 364, 455, 546, 637, 728, 819, 999]);
    assert_eq!(steps(&sampled, &short), [0, 1, 2], "a short history is shown whole");
    let part = world.get(&format!("{interval}&max_results=5&start_step=2&end_step=5")).await;
    assert_eq!((steps(&part, &long), steps(&part, &short)), (vec![2, 3, 4, 5], vec![2]));

    let refused = |query: &str| format!("metrics/get-history-bulk-interval?{query}");
    for (query, text) in [
        ("metric_key=loss", "required parameter 'run_ids'"),
        ("run_ids=a&metric_key=loss&start_step=5", "both must be specified"),
        ("run_ids=a&metric_key=loss&start_step=5&end_step=2", "must be greater"),
        ("run_ids=a", "metric_key"),
    ] {
        world.refused(Method::GET, &refused(query), Value::Null, "INVALID_PARAMETER_VALUE", text).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_sets_of_an_experiment_are_listed_with_their_use() {
    let world = World::begin().await;
    for (context, digest) in [("training", "a1"), ("training", "a1"), ("validation", "b2")] {
        let run = world.run().await;
        let dataset = json!({"name": "cancer", "digest": digest, "source_type": "local", "source": "{}"});
        let input = json!({"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": context}]});
        world.post("runs/log-inputs", json!({"run_id": run, "datasets": [input]})).await;
    }
    let found = world.post("experiments/search-datasets", json!({"experiment_ids": ["0"]})).await;
    assert_eq!(
        found["dataset_summaries"],
        json!([
            {"experiment_id": "0", "name": "cancer", "digest": "a1", "context": "training"},
            {"experiment_id": "0", "name": "cancer", "digest": "b2", "context": "validation"},
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn models_of_old_clients_are_kept_in_the_tag_they_look_for() {
    let world = World::begin().await;
    let run = world.run().await;
    let model =
        |path: &str| json!({"run_id": run, "artifact_path": path, "utc_time_created": "now", "flavors": {}});
    for path in ["first", "second"] {
        let body = json!({"run_id": run, "model_json": model(path).to_string()});
        world.post("runs/log-model", body).await;
    }
    let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
    let tags = found["run"]["data"]["tags"].as_array().unwrap();
    let history = tags.iter().find(|tag| tag["key"] == "mlflow.log-model.history").unwrap();
    let history: Value = serde_json::from_str(history["value"].as_str().unwrap()).unwrap();
    assert_eq!(history, json!([model("first"), model("second")]));
    let body = json!({"run_id": run, "model_json": "{\"run_id\": \"x\"}"});
    world.refused(Method::POST, "runs/log-model", body, "INVALID_PARAMETER_VALUE", "artifact_path").await;
}
