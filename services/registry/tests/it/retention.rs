//! Rules deleted what is old or superseded, and never of what is in use.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{MODEL, World};

/// A rule that is applied only when it is asked for, unless it says that it is enabled.
async fn put(world: &World, name: &str, mut rule: Value) {
    if rule["enabled"].is_null() {
        rule["enabled"] = false.into();
    }
    let (status, answer) = world.v1(Method::PUT, &format!("retention-rules/{name}"), rule).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

/// Every page of a run of a rule: ids of what goes, and the bytes.
async fn apply(world: &World, name: &str, dry_run: bool) -> (Vec<String>, i64) {
    let (mut ids, mut size_bytes, mut token) = (Vec::new(), 0, String::new());
    loop {
        let path = format!("retention-rules/{name}/run?dry_run={dry_run}&limit=2&page_token={token}");
        let (status, page) = world.v1(Method::POST, &path, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(page["examined"].as_u64().unwrap() <= 2);
        for gone in page["goes"].as_array().unwrap() {
            assert!(!gone["reason"].as_str().unwrap().is_empty());
            ids.push(gone["id"].as_str().unwrap().to_owned());
        }
        size_bytes += page["size_bytes"].as_i64().unwrap();
        match page["next_page_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    ids.sort();
    (ids, size_bytes)
}

/// A run that has ended, with a score and a file.
async fn ended(world: &World, experiment: &str, score: f64) -> String {
    let made = world.post("runs/create", json!({"experiment_id": experiment, "start_time": 1_000})).await;
    let run = made["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let metric = json!({"run_id": run, "key": "auc", "value": score, "timestamp": 1});
    world.post("runs/log-metric", metric).await;
    assert!(world.put_file(&format!("{experiment}/{run}/artifacts/model.onnx"), MODEL).await.0.is_success());
    world.post("runs/update", json!({"run_id": run, "status": "FINISHED", "end_time": 2_000})).await;
    run
}

async fn stage(world: &World, run: &str) -> Value {
    world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await["run"]["info"]["lifecycle_stage"]
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_but_the_best_runs_go_and_what_is_needed_stays() {
    let world = World::begin().await;
    let made = world.post("experiments/create", json!({"name": "sweep"})).await;
    let experiment = made["experiment_id"].as_str().unwrap().to_owned();
    let mut runs = Vec::new();
    for score in 0..7 {
        runs.push(ended(&world, &experiment, f64::from(score)).await);
    }
    let elsewhere = ended(&world, "0", 0.0).await;
    let running = world.post("runs/create", json!({"experiment_id": experiment, "start_time": 1})).await;
    let running = running["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    world.post("registered-models/create", json!({"name": "m"})).await;
    let source = json!({"name": "m", "source": format!("runs:/{}/model.onnx", runs[0]), "run_id": runs[0]});
    world.post("model-versions/create", source).await;

    let best = json!({"metric": "auc", "k": 2, "goal": "maximize"});
    let scope = json!({"scope": "experiment", "experiment": "sweep"});
    put(&world, "best", json!({"for": scope, "keep_best": best, "after_days": 1, "action": "delete"})).await;
    let mut expected = runs[1..5].to_vec();
    expected.sort();
    let size = 4 * i64::try_from(MODEL.len()).unwrap();
    assert_eq!(apply(&world, "best", true).await, (expected.clone(), size));
    assert_eq!(stage(&world, &runs[1]).await, "active", "a dry run changes nothing");
    assert_eq!(apply(&world, "best", false).await, (expected, size));
    assert_eq!(apply(&world, "best", false).await, (Vec::new(), 0), "once more is harmless");
    for kept in [&runs[0], &runs[5], &runs[6], &elsewhere, &running] {
        assert_eq!(stage(&world, kept).await, "active", "{kept}");
    }
    let body = json!({"run_id": runs[1]});
    world.refused(Method::POST, "runs/restore", body, "RESOURCE_DOES_NOT_EXIST", "not found").await;
    let gone = format!("{experiment}/{}/artifacts/model.onnx", runs[1]);
    assert_eq!(world.file(&gone).await.status(), StatusCode::NOT_FOUND);
    let deleted = world.events("slipway.registry.run.deleted", 4).await;
    let body: Value = serde_json::from_slice(&deleted[0].data).unwrap();
    assert_eq!(body["details"]["retention_rule"], "best");
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_runs_come_back_and_tags_choose() {
    let world = World::begin().await;
    let (marked, other) = (ended(&world, "0", 1.0).await, ended(&world, "0", 1.0).await);
    world.post("runs/set-tag", json!({"run_id": marked, "key": "scratch", "value": "yes"})).await;
    let scope = json!({"scope": "tag", "key": "scratch", "value": "yes"});
    put(&world, "scratch", json!({"for": scope, "after_days": 0, "action": "archive"})).await;
    assert_eq!(apply(&world, "scratch", false).await, (vec![marked.clone()], 0));
    assert_eq!(
        (stage(&world, &marked).await, stage(&world, &other).await),
        (json!("deleted"), json!("active"))
    );
    world.post("runs/restore", json!({"run_id": marked})).await;
    assert_eq!(stage(&world, &marked).await, "active");
    let (_, listed) = world.v1(Method::GET, "retention-rules", json!({})).await;
    assert_eq!(listed["retention_rules"][0]["for"]["key"], "scratch");
    assert_eq!(
        world.v1(Method::DELETE, "retention-rules/scratch", json!({})).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(world.v1(Method::GET, "retention-rules/scratch", json!({})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_in_use_stay() {
    let world = World::begin().await;
    for _ in 0..6 {
        let model = world.onnx_model(MODEL).await;
        assert!(world.version("churn", &model).await.0.is_success());
    }
    let alias = json!({"name": "churn", "alias": "champion", "version": "1"});
    world.post("registered-models/alias", alias).await;
    let staged = json!({"name": "churn", "version": "2", "stage": "Production"});
    world.post("model-versions/transition-stage", staged).await;
    let deployed = "INSERT INTO registry.deployments (deployment, model, stable_version, \
        candidate_weight_percent, told_ms) \
        VALUES ('shop', 'churn', '5', 0, 1) RETURNING deployment";
    assert_eq!(world.column(deployed).await.len(), 1);
    let scope = json!({"scope": "model", "model": "churn"});
    put(&world, "old", json!({"for": scope, "keep_last": 1, "action": "archive"})).await;
    assert_eq!(apply(&world, "old", false).await.0, ["churn/3", "churn/4"]);
    let shown = world.get("/api/v1/models/churn/versions/3").await;
    assert_eq!(shown["stage"], "Archived");
    // What was archived may go for good; an alias that was set meanwhile keeps its version.
    put(&world, "gone", json!({"for": scope, "keep_last": 1, "action": "delete"})).await;
    let alias = json!({"name": "churn", "alias": "candidate", "version": "4"});
    world.post("registered-models/alias", alias).await;
    assert_eq!(apply(&world, "gone", false).await.0, ["churn/3"]);
    let left = world.get("/api/v1/models/churn/versions").await;
    let left: Vec<&str> = left["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["version"].as_str().unwrap())
        .collect();
    assert_eq!(left, ["6", "5", "4", "2", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn enabled_rules_are_applied_from_time_to_time_by_one_of_two_replicas() {
    let world = World::begin().await;
    let other = world.replica().await;
    let run = ended(&other, "0", 1.0).await;
    put(
        &world,
        "everything",
        json!({"for": {"scope": "all"}, "after_days": 1, "action": "archive", "enabled": true}),
    )
    .await;
    let told = world.events("slipway.registry.run.deleted", 1).await;
    assert_eq!((told.len(), told[0].entity.as_str()), (1, run.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_rule_is_refused_by_the_name_of_its_field() {
    let world = World::begin().await;
    let all = json!({"scope": "all"});
    for (field, rule) in [
        ("after_days", json!({"for": all, "action": "delete"})),
        ("action", json!({"for": all, "after_days": 1, "action": "burn"})),
        ("for.scope", json!({"for": {"scope": "nothing"}, "after_days": 1, "action": "delete"})),
        (
            "keep_best.k",
            json!({"for": all, "keep_best": {"metric": "a", "k": 0, "goal": "minimize"}, "action": "delete"}),
        ),
        (
            "include_registered",
            json!({"for": all, "after_days": 1, "action": "delete", "include_registered": true}),
        ),
        ("enabled", json!({"for": all, "after_days": 1, "action": "delete", "enabled": "no"})),
        ("after_day", json!({"for": all, "after_day": 1, "action": "delete"})),
    ] {
        let (status, answer) = world.v1(Method::PUT, "retention-rules/r", rule).await;
        assert_eq!((status, &answer["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{answer}");
    }
    let (status, _) = world.v1(Method::POST, "retention-rules/r/run", json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

/// A rule may be applied by several replicas at the same time, and again after a pass that was interrupted
/// between the deletion of a run and its purge: each deletion is told once.
#[tokio::test(flavor = "multi_thread")]
async fn each_deletion_is_told_once_however_many_replicas_apply_a_rule() {
    let world = World::begin().await;
    let other = world.replica().await;
    let made = world.post("experiments/create", json!({"name": "sweep"})).await;
    let experiment = made["experiment_id"].as_str().unwrap().to_owned();
    let mut runs = Vec::new();
    for _ in 0..12 {
        runs.push(ended(&world, &experiment, 0.0).await);
    }
    runs.sort();
    // As a client deleted it, or a pass that ended there.
    world.post("runs/delete", json!({"run_id": runs[0]})).await;
    let scope = json!({"scope": "experiment", "experiment": "sweep"});
    put(&world, "old", json!({"for": scope, "after_days": 0, "action": "delete"})).await;
    tokio::join!(
        apply(&world, "old", false),
        apply(&other, "old", false),
        apply(&world, "old", false),
        apply(&other, "old", false)
    );
    for what in ["deleted", "purged"] {
        let told = world.events(&format!("slipway.registry.run.{what}"), runs.len()).await;
        let mut told: Vec<String> = told.into_iter().map(|event| event.entity).collect();
        told.sort();
        assert_eq!(told, runs, "{what}");
    }
}
