//! What was deleted goes for good, and nothing else.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{MODEL, World};

async fn purge(world: &World, body: &Value) -> Value {
    let response = world.http.post(format!("{}/api/v1/purge", world.url)).json(body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_runs_go_with_their_files_and_what_is_needed_stays() {
    let world = World::begin().await;
    let made = world.post("experiments/create", json!({"name": "old"})).await;
    let experiment = made["experiment_id"].as_str().unwrap().to_owned();
    let make = async |name: &str| {
        let body = json!({"experiment_id": experiment, "run_name": name});
        let run = world.post("runs/create", body).await["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        let points: Vec<Value> = (0..1_000)
            .map(|step| json!({"key": "loss", "value": 1, "timestamp": step, "step": step}))
            .collect();
        world.post("runs/log-batch", json!({"run_id": run, "metrics": points})).await;
        let path = format!("{experiment}/{run}/artifacts/model/model.onnx");
        assert_eq!(world.put_file(&path, MODEL).await.0, StatusCode::OK);
        run
    };
    let (gone, registered, kept) = (make("gone").await, make("registered").await, make("kept").await);
    world.post("registered-models/create", json!({"name": "m"})).await;
    let source = json!({"name": "m", "source": format!("runs:/{registered}/model"), "run_id": registered});
    world.post("model-versions/create", source).await;
    for run in [&gone, &registered] {
        world.post("runs/delete", json!({"run_id": run})).await;
    }

    let recent = purge(&world, &json!({"older_than_s": 3_600, "dry_run": false})).await;
    assert_eq!((&recent["runs"], &recent["files"]), (&json!(0), &json!(0)), "it was deleted just now");
    let size = MODEL.len();
    let dry = purge(&world, &json!({"older_than_s": 0})).await;
    let expected = json!({"dry_run": true, "runs": 1, "runs_kept": 1, "logged_models": 0, "experiments": 0,
        "files": 1,
        "size_bytes": size, "more": false});
    assert_eq!(dry, expected);
    let done = purge(&world, &json!({"older_than_s": 0, "dry_run": false, "limit": 1})).await;
    assert_eq!(
        (&done["runs"], &done["files"], &done["size_bytes"], &done["more"]),
        (&json!(1), &json!(1), &json!(size), &json!(true))
    );
    let rest = purge(&world, &json!({"older_than_s": 0, "dry_run": false, "limit": 1})).await;
    assert_eq!((&rest["runs"], &rest["more"]), (&json!(0), &json!(false)));

    let body = json!({"run_id": gone});
    world.refused(Method::POST, "runs/restore", body, "RESOURCE_DOES_NOT_EXIST", "not found").await;
    let file = |run: &str| format!("{experiment}/{run}/artifacts/model/model.onnx");
    assert_eq!(world.file(&file(&gone)).await.status(), StatusCode::NOT_FOUND);
    for run in [&registered, &kept] {
        assert_eq!(world.file(&file(run)).await.bytes().await.unwrap(), MODEL);
    }
    world.post("runs/restore", json!({"run_id": registered})).await;
    let history = format!("/api/2.0/mlflow/metrics/get-history?run_id={registered}&metric_key=loss");
    assert_eq!(world.get(&history).await["metrics"].as_array().unwrap().len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_experiment_goes_with_all_of_its_runs() {
    let world = World::begin().await;
    let made = world.post("experiments/create", json!({"name": "old"})).await;
    let experiment = made["experiment_id"].as_str().unwrap();
    for _ in 0..3 {
        world.post("runs/create", json!({"experiment_id": experiment})).await;
    }
    let model = world.post("logged-models", json!({"experiment_id": experiment})).await;
    let model = model["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    world.post("experiments/delete", json!({"experiment_id": experiment})).await;
    let first = purge(&world, &json!({"older_than_s": 0, "dry_run": false})).await;
    assert_eq!(
        (&first["runs"], &first["experiments"]),
        (&json!(3), &json!(0)),
        "a logged model is still there"
    );
    world.call(Method::DELETE, &format!("logged-models/{model}"), json!({})).await;
    let second = purge(&world, &json!({"older_than_s": 0, "dry_run": false})).await;
    assert_eq!((&second["logged_models"], &second["experiments"]), (&json!(1), &json!(1)));
    // Its name is free again.
    world.post("experiments/create", json!({"name": "old"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_to_purge_is_told_what_is_wrong() {
    let world = World::begin().await;
    for (body, field) in [
        (json!({"older_than_s": -1}), "older_than_s"),
        (json!({"limit": 0}), "limit"),
        (json!({"older_than_s": "a week"}), "older_than_s"),
    ] {
        let response =
            world.http.post(format!("{}/api/v1/purge", world.url)).json(&body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.json::<Value>().await.unwrap()["field"], field);
    }
}
