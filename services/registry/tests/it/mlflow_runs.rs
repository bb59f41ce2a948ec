//! Experiments, runs and what they log, where MLflow's own tests look closely: types, texts and repeated
//! requests.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

const INVALID: &str = "INVALID_PARAMETER_VALUE";
const ABSENT: &str = "RESOURCE_DOES_NOT_EXIST";

#[tokio::test(flavor = "multi_thread")]
async fn values_of_another_type_are_refused_by_name_and_value() {
    let world = World::begin().await;
    let run = world.run().await;
    let hint = |value: &str, field: &str, kind: &str| {
        format!(
            "Invalid value {value} for parameter '{field}' supplied:  Hint: Value was of type '{kind}'. See \
             the API docs for more information about request parameters."
        )
    };
    let metric = |field: &str, value: Value| {
        let mut body = json!({"run_id": run, "key": "m", "value": 1, "timestamp": 1, "step": 1});
        body[field] = value;
        body
    };
    let refusals = [
        ("experiments/create", json!({"name": 123}), hint("123", "name", "int")),
        (
            "experiments/create",
            json!({"name": "e", "artifact_location": 9.0}),
            hint("9.0", "artifact_location", "float"),
        ),
        ("experiments/create", json!({"name": "e", "tags": "5"}), hint("\"5\"", "tags", "str")),
        ("runs/log-metric", metric("run_id", json!(31)), hint("31", "run_id", "int")),
        ("runs/log-metric", metric("key", json!(31)), hint("31", "key", "int")),
        ("runs/log-metric", metric("step", json!("foo")), hint("\"foo\"", "step", "str")),
        ("runs/log-metric", metric("timestamp", json!("foo")), hint("\"foo\"", "timestamp", "str")),
        ("runs/set-tag", json!({"run_id": run, "key": "k", "value": 41}), hint("41", "value", "int")),
        ("runs/log-batch", json!({"run_id": run, "metrics": "foo"}), hint("\"foo\"", "metrics", "str")),
        ("registered-models/create", json!({"name": ["a"]}), hint("[\"a\"]", "name", "list")),
        (
            "runs/search",
            json!({"experiment_ids": ["0"], "order_by": "name"}),
            hint("\"name\"", "order_by", "str"),
        ),
    ];
    for (path, body, message) in refusals {
        world.refused(Method::POST, path, body, INVALID, &message).await;
    }
    let both = json!({"run_id": run, "runId": run, "key": "m", "value": 1, "timestamp": 1});
    world.refused(Method::POST, "runs/log-metric", both, INVALID, "both 'run_id' and 'runId'").await;
    // Integers may be text, and nulls are absent.
    world.post("runs/log-metric", metric("step", json!("12"))).await;
    world.post("runs/log-metric", metric("step", Value::Null)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_names_the_place_of_what_is_wrong() {
    let world = World::begin().await;
    let run = world.run().await;
    let good = json!({"key": "mae", "value": 2.5, "timestamp": 123});
    let with = |field: &str, value: Value| {
        let mut metric = good.clone();
        metric[field] = value;
        json!({"metrics": [good.clone(), metric]})
    };
    let refusals = [
        (
            json!({"metrics": [{"key": "mae", "value": 2.5}]}),
            "Missing value for required parameter 'metrics[0].timestamp'",
        ),
        (with("value", Value::Null), "Missing value for required parameter 'metrics[1].value'"),
        (with("key", json!("")), "Missing value for required parameter 'metrics[1].key'"),
        (
            with("key", json!("../x")),
            "Invalid value \"../x\" for parameter 'metrics[1].name' supplied: Names may be treated",
        ),
        (
            with("timestamp", json!(-1)),
            "Invalid value -1 for parameter 'metrics[1].timestamp' supplied: metric 'mae'",
        ),
        (
            with("dataset_name", json!("iris")),
            "Both dataset_name and dataset_digest must be provided if one is provided",
        ),
        (
            with("dataset_digest", json!("d")),
            "Both dataset_name and dataset_digest must be provided if one is provided",
        ),
        (json!({"params": [{"value": "1"}]}), "Missing value for required parameter 'params[0].key'"),
        (
            json!({"tags": [{"key": "a$", "value": "1"}]}),
            "Invalid value \"a$\" for parameter 'tags[0].key' supplied",
        ),
    ];
    for (mut body, message) in refusals {
        body["run_id"] = json!(run);
        world.refused(Method::POST, "runs/log-batch", body, INVALID, message).await;
    }
    let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
    assert_eq!(found["run"]["data"].get("metrics"), None, "nothing of a refused batch is kept");
    assert_eq!(
        found["run"]["outputs"],
        json!({}),
        "the list of outputs is there for clients that read it unasked"
    );
    world.post("runs/log-batch", json!({"run_id": run, "metrics": [good]})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_and_restoring_a_run_may_be_repeated() {
    let world = World::begin().await;
    let run = world.run().await;
    let stage = || async {
        let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
        found["run"]["info"]["lifecycle_stage"].clone()
    };
    world.post("runs/restore", json!({ "run_id": run })).await;
    for _ in 0..2 {
        world.post("runs/delete", json!({ "run_id": run })).await;
        assert_eq!(stage().await, "deleted");
    }
    for _ in 0..2 {
        world.post("runs/restore", json!({ "run_id": run })).await;
        assert_eq!(stage().await, "active");
    }
    assert_eq!(
        world.events("slipway.registry.run.deleted", 1).await.len(),
        1,
        "what changes nothing is no event"
    );
    for path in ["runs/delete", "runs/restore"] {
        let absent = json!({"run_id": "nope"});
        world.refused(Method::POST, path, absent, ABSENT, "Run with id=nope not found").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn experiments_are_refused_in_mlflows_words() {
    let world = World::begin().await;
    let made = world.post("experiments/create", json!({"name": "e"})).await;
    let id = made["experiment_id"].as_str().unwrap();
    let location = |uri: &str| json!({"name": "other", "artifact_location": uri});
    let refusals = [
        (
            "experiments/create",
            location("runs:/a"),
            INVALID,
            "Artifact location cannot be a runs:/ URI. Given: 'runs:/a'",
        ),
        ("experiments/create", location("s3://b/#f"), INVALID, "URL can't include fragments or params."),
        (
            "experiments/create",
            location(&format!("s3://{}", "b".repeat(2_048))),
            INVALID,
            "The length of the artifact path cannot be greater than 2048 characters.",
        ),
        (
            "runs/create",
            json!({"experiment_id": "abc"}),
            INVALID,
            "Invalid experiment ID 'abc'. Experiment ID must be a valid integer.",
        ),
        (
            "experiments/restore",
            json!({ "experiment_id": id }),
            ABSENT,
            &format!("No Experiment with id={id} exists"),
        ),
        (
            "experiments/delete-experiment-tag",
            json!({"experiment_id": id, "key": "x"}),
            ABSENT,
            &format!("No tag with name: x in experiment with id {id}"),
        ),
    ];
    for (path, body, code, message) in refusals {
        world.refused(Method::POST, path, body, code, message).await;
    }
    world.post("experiments/delete", json!({ "experiment_id": id })).await;
    let again = json!({ "experiment_id": id });
    world.refused(Method::POST, "experiments/delete", again, ABSENT, "No Experiment with id=").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_set_that_is_logged_again_keeps_its_tags() {
    let world = World::begin().await;
    let run = world.run().await;
    let log = |tags: Value| {
        let dataset = json!({"name": "n", "digest": "d", "source_type": "local", "source": "s"});
        json!({"run_id": run, "datasets": [{"dataset": dataset, "tags": tags}]})
    };
    world.post("runs/log-inputs", log(json!([{"key": "mlflow.data.context", "value": "train"}]))).await;
    let later = json!([{"key": "mlflow.data.context", "value": "test"}, {"key": "more", "value": "1"}]);
    world.post("runs/log-inputs", log(later)).await;
    let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
    let inputs = &found["run"]["inputs"]["dataset_inputs"];
    assert_eq!(inputs.as_array().map(Vec::len), Some(1));
    assert_eq!(inputs[0]["tags"], json!([{"key": "mlflow.data.context", "value": "train"}]));
    let search = "experiments/search-datasets";
    world.refused(Method::POST, search, json!({}), INVALID, "must specify at least one experiment_id.").await;
    let many = json!({"experiment_ids": vec!["1"; 21]});
    world.refused(Method::POST, search, many, INVALID, "cannot specify more than 20 experiment_ids.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_a_history_have_its_first_and_last_point() {
    let world = World::begin().await;
    let (long, short) = (world.run().await, world.run().await);
    for (run, points) in [(&long, 20), (&short, 3)] {
        let metrics: Vec<Value> = (0..points)
            .map(|step| json!({"key": "a", "value": step, "timestamp": 1, "step": step}))
            .collect();
        world.post("runs/log-batch", json!({"run_id": run, "metrics": metrics})).await;
    }
    let path = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval";
    let both = format!("run_ids={short}&run_ids={long}&max_results=5");
    let expected =
        [(false, 0), (false, 1), (false, 2), (true, 0), (true, 4), (true, 8), (true, 12), (true, 19)];
    let found = world.get(&format!("{path}?metric_key=a&{both}")).await;
    let point = |point: &Value| (point["run_id"] == long.as_str(), point["step"].as_i64().unwrap());
    let sampled: Vec<(bool, i64)> = found["metrics"].as_array().unwrap().iter().map(point).collect();
    assert_eq!(sampled, expected, "in the order in which the runs are asked for");
}
