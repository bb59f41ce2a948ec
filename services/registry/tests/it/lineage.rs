//! Lineage: from the data and the code to where a version is deployed.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::events::{DeploymentChange, EventBody, RolloutChange};

use crate::world::{MODEL, World};

fn rollout(what: &str, from: Option<&str>, to: &str, weight: u8) -> RolloutChange {
    RolloutChange {
        rollout_id: "r".to_owned(),
        deployment: "churn".to_owned(),
        model: "m".to_owned(),
        what: what.to_owned(),
        from_version: from.map(str::to_owned),
        to_version: to.to_owned(),
        weight_percent: weight,
        reason: "test".to_owned(),
        actor: None,
    }
}

impl World {
    async fn lineage(&self, version: &str) -> Value {
        self.get(&format!("/api/v1/models/m/versions/{version}/lineage")).await
    }

    /// Waits until a version has these places in deployments, as `role@weight`.
    async fn placed(&self, version: &str, expected: &[&str]) -> Value {
        let mut last = Value::Null;
        for _ in 0..400 {
            last = self.lineage(version).await["deployments"].clone();
            let found: Vec<String> = last
                .as_array()
                .unwrap()
                .iter()
                .map(|place| format!("{}@{}", place["role"].as_str().unwrap(), place["weight_percent"]))
                .collect();
            if found == expected {
                return last;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        unreachable!("version {version} was to be {expected:?}, and is {last}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_leads_back_to_data_code_and_job() {
    let world = World::begin().await;
    let made = world
        .post("runs/create", json!({"experiment_id": "0", "user_id": "eve", "run_name": "nightly"}))
        .await;
    let run = made["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    for (key, value) in [
        ("mlflow.source.name", "train.py"),
        ("mlflow.source.git.commit", "abc123"),
        ("slipway.job_id", "job-7"),
        ("slipway.attempt", "2"),
        ("slipway.restored_step", "400"),
    ] {
        world.post("runs/set-tag", json!({"run_id": run, "key": key, "value": value})).await;
    }
    let dataset = json!({"name": "cancer", "digest": "d1", "source_type": "local", "source": "{}"});
    let input = json!({"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": "training"}]});
    world.post("runs/log-inputs", json!({"run_id": run, "datasets": [input]})).await;
    let model =
        world.post("logged-models", json!({"experiment_id": "0", "name": "net", "source_run_id": run})).await;
    let id = model["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    world.put_file(&format!("0/models/{id}/artifacts/model.onnx"), MODEL).await;
    assert_eq!(world.version("m", &id).await.0, StatusCode::OK);
    let report = json!({"name": "holdout", "dataset": {"name": "cancer", "digest": "d2"}, "rows": 90,
        "metrics": {"accuracy": 0.5},
        "segments": [{"attribute": "sex", "value": "f", "rows": 40, "metrics": {"accuracy": 0.75}},
                     {"attribute": "sex", "value": "m", "rows": 50, "metrics": {"accuracy": 0.5}}]});
    world.api(Method::POST, "models/m/versions/1/reports", report).await;
    world.api(Method::POST, "models/m/versions/1/approvals", json!({"by": "ada", "comment": "fine"})).await;

    let lineage = world.lineage("1").await;
    assert_eq!(lineage["digest"], world.get("/api/v1/models/m/versions/1").await["digest"]);
    assert_eq!((&lineage["logged_model"]["model_id"], &lineage["run"]["run_id"]), (&json!(id), &json!(run)));
    assert_eq!((&lineage["run"]["user"], &lineage["run"]["name"]), (&json!("eve"), &json!("nightly")));
    assert_eq!(lineage["code"], json!({"program": "train.py", "commit": "abc123"}));
    assert_eq!(lineage["job"], json!({"id": "job-7", "attempt": "2", "restored_step": "400"}));
    assert_eq!(lineage["datasets"][0]["digest"], "d1");
    assert_eq!(
        (&lineage["signing"]["state"], &lineage["approvals"][0]["by"]),
        (&json!("unsigned"), &json!("ada"))
    );
    assert_eq!(lineage["reports"][0]["gaps"][0]["gap"], 0.25);
    assert_eq!(lineage["deployments"], json!([]));

    let card = world.get("/api/v1/models/m/versions/1/card").await;
    assert_eq!(card["missing"], json!(["description", "metrics"]), "{card}");
    let url = format!("{}/api/v1/models/m/versions/1/card?format=markdown", world.url);
    let text = world.http.get(url).send().await.unwrap().text().await.unwrap();
    for line in [
        "| signed | unsigned: it has no signature |",
        "| not known | description, metrics |",
        "## Report holdout",
        "90 rows of cancer (`d2`).",
        "| accuracy, sex | 0.25 | f: 0.75 | m: 0.5 |",
        "| ada | fine |",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let absent = world.api(Method::GET, "models/m/versions/2/lineage", Value::Null).await;
    assert_eq!(absent.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_knows_where_it_is_deployed() {
    let world = World::begin().await;
    let (one, two) = (world.onnx_model(MODEL).await, world.onnx_model(MODEL).await);
    world.version("m", &one).await;
    world.version("m", &two).await;
    let created = DeploymentChange {
        deployment: "churn".into(),
        model: "m".into(),
        what: "created".into(),
        ..DeploymentChange::default()
    };
    world.publish(&created, "2026-01-01T00:00:01.000Z").await;
    world.publish(&rollout("started", None, "1", 0), "2026-01-01T00:00:01.000Z").await;
    world.placed("1", &["candidate@0"]).await;
    world.publish(&rollout("promoted", None, "1", 100), "2026-01-01T00:00:02.000Z").await;
    let places = world.placed("1", &["stable@null"]).await;
    assert_eq!(
        places[0],
        json!({"deployment": "churn", "role": "stable", "since_unix_ms": 1_767_225_602_000_i64})
    );
    world.publish(&rollout("advanced", Some("1"), "2", 10), "2026-01-01T00:00:03.000Z").await;
    world.placed("2", &["candidate@10"]).await;
    world.publish(&rollout("promoted", Some("1"), "2", 100), "2026-01-01T00:00:05.000Z").await;
    // What comes late says nothing of now.
    world.publish(&rollout("advanced", Some("1"), "2", 50), "2026-01-01T00:00:04.000Z").await;
    world.placed("2", &["stable@null"]).await;
    world.placed("1", &[]).await;
    let card = world.get("/api/v1/models/m/versions/2/card").await;
    assert_eq!(card["deployments"][0]["deployment"], "churn");
    let gone = DeploymentChange { what: "deleted".into(), ..created };
    world.publish(&gone, "2026-01-01T00:00:06.000Z").await;
    world.placed("2", &[]).await;
}

impl World {
    async fn publish<E: EventBody>(&self, event: &E, time: &str) {
        self.publish_at(&event.subject(), &event.entity(), time, serde_json::to_vec(event).unwrap()).await;
    }
}
