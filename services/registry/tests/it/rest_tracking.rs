//! Experiments, runs and metrics over REST v1, as a console and the command line use them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::rest::registry::{
    ArtifactsQuery, ExperimentUpdate, ExperimentsQuery, LifecycleStage, LogBatch, NewExperiment, NewMetric,
    NewRun, PreviewQuery, RunSearch, RunStatus, RunUpdate, SampleRequest, UploadQuery, View,
};
use slipway_api::rest::{Number, PageQuery, TagValue as Text};
use slipway_client::registry::Owner;

use crate::world::{MODEL, World};

fn new_experiment(name: &str) -> NewExperiment {
    NewExperiment { name: name.to_owned(), ..NewExperiment::default() }
}

fn point(key: &str, value: f64, step: i64) -> NewMetric {
    NewMetric { key: key.to_owned(), value: Number(value), timestamp: Some(1_000 + step), step }
}

fn page(limit: u32, page_token: Option<String>) -> PageQuery {
    PageQuery { limit: Some(limit), page_token }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_is_created_found_renamed_deleted_and_restored() {
    let world = World::begin().await;
    let client = world.client();
    for name in ["churn-a", "churn-b", "other"] {
        client.create_experiment(&new_experiment(name)).await.unwrap();
    }
    let query = |page_token| ExperimentsQuery {
        filter: Some("name LIKE 'churn%'".to_owned()),
        order_by: Some("name DESC".to_owned()),
        limit: Some(1),
        page_token,
        ..ExperimentsQuery::default()
    };
    let first = client.experiments(&query(None)).await.unwrap();
    let second = client.experiments(&query(first.next_page_token.clone())).await.unwrap();
    assert_eq!(
        (first.experiments[0].name.as_str(), second.experiments[0].name.as_str()),
        ("churn-b", "churn-a")
    );
    assert_eq!(second.next_page_token, None);

    let id = second.experiments[0].experiment_id.clone();
    let update = ExperimentUpdate { name: "renamed".to_owned() };
    assert_eq!(client.update_experiment(&id, &update).await.unwrap().name, "renamed");
    client.set_experiment_tag(&id, "team/a", &Text { value: "x".to_owned() }).await.unwrap();
    assert_eq!(client.experiment(&id).await.unwrap().tags["team/a"], "x");
    client.delete_experiment_tag(&id, "team/a").await.unwrap();
    client.delete_experiment(&id).await.unwrap();
    assert_eq!(client.experiment(&id).await.unwrap().lifecycle_stage, LifecycleStage::Deleted);
    let deleted = ExperimentsQuery { view: View::Deleted, ..ExperimentsQuery::default() };
    assert_eq!(client.experiments(&deleted).await.unwrap().experiments[0].experiment_id, id);
    let restored = client.restore_experiment(&id).await.unwrap();
    assert_eq!((restored.lifecycle_stage, restored.tags.len()), (LifecycleStage::Active, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_names_the_field_and_changes_nothing() {
    let world = World::begin().await;
    let client = world.client();
    let run = client.create_run("0", &NewRun::default()).await.unwrap().info.run_id;
    let log = format!("runs/{run}/log");
    let post = Method::POST;
    for (method, path, body, field) in [
        (&post, "experiments", json!({}), "name"),
        (&post, "experiments", json!({"name": ""}), "name"),
        (&post, "experiments", json!({"name": 3}), "name"),
        (&post, "experiments", json!({"name": "a", "color": "red"}), "color"),
        (&post, "experiments", json!({"name": "a", "artifact_location": "s3://b#c"}), "artifact_location"),
        (&Method::GET, "experiments?filter=nonsense", json!(null), "filter"),
        (&Method::GET, "experiments?order_by=nothing", json!(null), "order_by"),
        (&Method::GET, "experiments?limit=0", json!(null), "limit"),
        (&Method::GET, "experiments?page_token=x", json!(null), "page_token"),
        (&post, "runs/search", json!({"experiment_ids": []}), "experiment_ids"),
        (&post, "runs/search", json!({"experiment_ids": ["a"]}), "experiment_ids[0]"),
        (&post, "runs/search", json!({"experiment_ids": ["0"], "filter": "metrics."}), "filter"),
        (
            &post,
            log.as_str(),
            json!({"metrics": [{"key": "a", "value": 1}, {"key": "b", "value": "x"}]}),
            "metrics[1].value",
        ),
        (
            &post,
            log.as_str(),
            json!({"metrics": [{"key": "a", "value": 1}, {"key": "", "value": 1}]}),
            "metrics[1].key",
        ),
        (&post, log.as_str(), json!({"params": {"a\u{1}": "1"}}), "params.a\u{1}"),
        (&post, "metrics/sample", json!({"run_ids": [run], "keys": ["a"], "max_points": 1}), "max_points"),
        (&Method::GET, "experiments/abc", json!(null), "experiment_id"),
    ] {
        world.refused_field(method.clone(), path, body, field).await;
    }
    let shown = client.run(&run).await.unwrap();
    assert_eq!((shown.data.metrics.len(), shown.data.params.len()), (0, 0), "a rejected batch logs nothing");
    for path in ["experiments/99", "runs/nothing", "runs/nothing/metrics/a", "runs/nothing/artifacts"] {
        let (status, problem) = world.v1(Method::GET, path, json!(null)).await;
        assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not-found")), "{path}");
    }
    client.create_experiment(&new_experiment("taken")).await.unwrap();
    let (status, problem) = world.v1(post, "experiments", json!({"name": "taken"})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("conflict")));
    let token = client.experiments(&ExperimentsQuery { limit: Some(1), ..ExperimentsQuery::default() }).await;
    let path = format!("experiments?view=all&limit=1&page_token={}", token.unwrap().next_page_token.unwrap());
    world.refused_field(Method::GET, &path, Value::Null, "page_token").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_created_logged_searched_and_finished() {
    let world = World::begin().await;
    let client = world.client();
    let new = |name: &str| NewRun {
        run_name: Some(name.to_owned()),
        user_id: Some("ada".to_owned()),
        tags: [("team".to_owned(), "a".to_owned())].into(),
        ..NewRun::default()
    };
    let mut runs = Vec::new();
    for (name, accuracy) in [("low", 0.5), ("high", 0.9), ("none", f64::NAN)] {
        let run = client.create_run("0", &new(name)).await.unwrap();
        assert_eq!((run.info.status, run.info.user_id.as_str()), (RunStatus::Running, "ada"));
        let batch = LogBatch {
            metrics: vec![point("accuracy", 0.1, 1), point("accuracy", accuracy, 2)],
            params: [("depth".to_owned(), "6".to_owned())].into(),
            tags: [("kind".to_owned(), name.to_owned())].into(),
        };
        client.log(&run.info.run_id, &batch).await.unwrap();
        runs.push(run.info.run_id);
    }
    let search = |filter: &str, page_token| RunSearch {
        experiment_ids: vec!["0".to_owned()],
        filter: Some(filter.to_owned()),
        order_by: vec!["metrics.accuracy DESC".to_owned()],
        limit: Some(1),
        page_token,
        ..RunSearch::default()
    };
    let filter = "metrics.accuracy > 0.2 AND params.depth = '6' AND tags.team = 'a'";
    let first = client.search_runs(&search(filter, None)).await.unwrap();
    let second = client.search_runs(&search(filter, first.next_page_token.clone())).await.unwrap();
    assert_eq!((&first.runs[0].info.run_id, &second.runs[0].info.run_id), (&runs[1], &runs[0]));
    assert_eq!(first.runs[0].data.metrics[0].value, Number(0.9), "the latest point counts");

    let shown = client.run(&runs[2]).await.unwrap();
    assert!(shown.data.metrics[0].value.0.is_nan(), "a number that is none survives JSON");
    assert!(shown.data.tags.iter().any(|tag| tag.key == "kind" && tag.value == "none"));
    let finished = RunUpdate { status: Some(RunStatus::Finished), ..RunUpdate::default() };
    let finished = client.update_run(&runs[0], &finished).await.unwrap();
    assert_eq!(finished.status, RunStatus::Finished);
    assert!(finished.end_time.is_some(), "a state that ends the run sets its end");

    client.delete_run_tag(&runs[0], "kind").await.unwrap();
    client.delete_run(&runs[0]).await.unwrap();
    let listed = world.get("/api/v1/runs?experiment=0").await;
    assert_eq!(listed["runs"].as_array().unwrap().len(), 2);
    assert_eq!(client.restore_run(&runs[0]).await.unwrap().info.lifecycle_stage, LifecycleStage::Active);
    // What another client of the tracking API sees is the same run.
    let same = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={}", runs[0])).await;
    assert_eq!(
        (&same["run"]["info"]["run_name"], &same["run"]["info"]["status"]),
        (&json!("low"), &json!("FINISHED"))
    );
    let (status, _) =
        world.v1(Method::POST, &format!("runs/{}/log", runs[0]), json!({"params": {"depth": "7"}})).await;
    assert!(status.is_client_error(), "a param never changes: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_have_a_bounded_number_of_points_and_keep_every_peak() {
    let world = World::begin().await;
    let client = world.client();
    let mut runs = Vec::new();
    for peak in [700, 1_500] {
        let run = client.create_run("0", &NewRun::default()).await.unwrap().info.run_id;
        for start in (0..2_000).step_by(1_000) {
            let value = |step: i64| {
                if step == peak {
                    1e6
                } else if step == peak + 1 {
                    -1e6
                } else {
                    1.0
                }
            };
            let metrics = (start..start + 1_000).map(|step| point("loss", value(step), step)).collect();
            client.log(&run, &LogBatch { metrics, ..LogBatch::default() }).await.unwrap();
        }
        let few = LogBatch {
            metrics: vec![point("acc", f64::NAN, 0), point("acc", 1.0, 1)],
            ..LogBatch::default()
        };
        client.log(&run, &few).await.unwrap();
        runs.push(run);
    }
    let request = SampleRequest {
        run_ids: runs.clone(),
        keys: vec!["loss".to_owned(), "acc".to_owned(), "absent".to_owned()],
        max_points: Some(40),
        ..SampleRequest::default()
    };
    let samples = client.sample_metrics(&request).await.unwrap();
    let names: Vec<(&str, &str)> =
        samples.series.iter().map(|series| (series.run_id.as_str(), series.key.as_str())).collect();
    let expected = [(&runs[0], "loss"), (&runs[0], "acc"), (&runs[1], "loss"), (&runs[1], "acc")];
    assert_eq!(names, expected.map(|(run, key)| (run.as_str(), key)));
    for series in samples.series.iter().filter(|series| series.key == "loss") {
        let points = &series.points;
        assert!(points.len() <= 40 && points.len() > 20, "{}", points.len());
        assert_eq!(series.total_points, 2_000);
        assert_eq!((points[0].step, points[points.len() - 1].step), (0, 1_999), "first and last survive");
        assert!(points.iter().any(|point| point.value == Number(1e6)), "the highest survives");
        assert!(points.iter().any(|point| point.value == Number(-1e6)), "the lowest survives");
        assert!(points.is_sorted_by_key(|point| point.step));
    }
    assert_eq!(samples.series[1].points.len(), 2, "a short history is complete");
    assert!(samples.series[1].points[0].value.0.is_nan());

    let part = SampleRequest { start_step: Some(10), end_step: Some(12), ..request };
    let part = client.sample_metrics(&part).await.unwrap();
    assert_eq!(part.series[0].points.iter().map(|point| point.step).collect::<Vec<_>>(), [10, 11, 12]);

    let (mut read, mut token) = (Vec::new(), None);
    loop {
        let history = client.metric_history(&runs[0], "loss", &page(900, token)).await.unwrap();
        read.extend(history.points.iter().map(|point| point.step));
        token = history.next_page_token;
        if token.is_none() {
            break;
        }
    }
    assert!(read.iter().copied().eq(0..2_000), "{} points", read.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_run_is_uploaded_listed_replaced_and_pinned_by_a_version() {
    let world = World::begin().await;
    let client = world.client();
    let run = client.create_run("0", &NewRun::default()).await.unwrap().info.run_id;
    let at = |path: &str| UploadQuery { path: path.to_owned() };
    let first = client.upload(&run, &at("plots/loss.txt"), b"0.5".to_vec()).await.unwrap();
    assert_eq!((first.path.as_str(), first.size_bytes), ("plots/loss.txt", 3));
    let second = client.upload(&run, &at("plots/loss.txt"), b"0.25".to_vec()).await.unwrap();
    assert_ne!(second.sha256, first.sha256);
    let listed = client.artifacts(Owner::Run(&run), &ArtifactsQuery::default()).await.unwrap();
    assert_eq!((listed.artifacts[0].path.as_str(), listed.artifacts[0].is_directory), ("plots", true));
    let preview = PreviewQuery { path: "plots/loss.txt".to_owned(), max_bytes: None };
    let preview = client.preview(Owner::Run(&run), &preview).await.unwrap();
    assert_eq!((preview.content.as_str(), preview.sha256), ("0.25", second.sha256));

    client.upload(&run, &at("model/model.onnx"), MODEL.to_vec()).await.unwrap();
    world.made(Method::POST, "models", json!({"name": "m"})).await;
    let source = json!({"source": format!("runs:/{run}/model"), "run_id": run});
    let version = world.made(Method::POST, "models/m/versions", source).await;
    assert_eq!(version["files"][0]["path"], "model.onnx", "{version}");
    client.upload(&run, &at("model/model.onnx"), MODEL.to_vec()).await.expect("the same bytes");
    let (path, file) = (format!("runs/{run}/artifacts/content"), Value::Null);
    let (status, problem) =
        world.v1(Method::PUT, &format!("{path}?path=model%2Fmodel.onnx"), file.clone()).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("conflict")), "{problem}");
    for wrong in ["..%2Fx", "%2Fetc", "", "a%2F"] {
        world.refused_field(Method::PUT, &format!("{path}?path={wrong}"), file.clone(), "path").await;
    }
    let (status, _) = world.v1(Method::PUT, "runs/absent/artifacts/content?path=a", file).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
