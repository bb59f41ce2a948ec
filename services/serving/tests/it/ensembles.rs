//! Several models in one request: from a folder as Triton has it, and from the registry.

use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::traffic::{TrafficTable, VersionState, VersionStatus};

use crate::serving::{Serving, answer, cache, point};
use crate::world::{World, eventually, fixture, table};

fn put(folder: &Path, model: &str, file: &str) {
    let version = folder.join(model).join("1");
    std::fs::create_dir_all(&version).expect("the folder is made");
    std::fs::write(version.join("model.onnx"), fixture(file)).expect("the model is written");
}

/// An ensemble of steps `(model, inputs, outputs)`, whose maps are `model name=tensor` each.
fn put_ensemble(folder: &Path, model: &str, input: &str, steps: &[(&str, &str, &str)], output: &str) {
    std::fs::create_dir_all(folder.join(model).join("1")).expect("the folder is made");
    let map = |name: &str, pairs: &str| -> String {
        let pairs = pairs.split_whitespace().map(|pair| pair.split_once('=').expect("a pair"));
        pairs.map(|(key, value)| format!("{name} {{ key: \"{key}\" value: \"{value}\" }} ")).collect()
    };
    let steps: Vec<String> = steps
        .iter()
        .map(|(model, inputs, outputs)| {
            let maps = map("input_map", inputs) + &map("output_map", outputs);
            format!("{{ model_name: \"{model}\" model_version: -1 {maps} }}")
        })
        .collect();
    let text = format!(
        "platform: \"ensemble\"\ninput [ {{ {input} }} ]\noutput [ {{ {output} }} ]\nensemble_scheduling {{ \
         step [ {} ] }}\n",
        steps.join(",\n")
    );
    std::fs::write(folder.join(model).join("config.pbtxt"), text).expect("the configuration is written");
}

const X: &str = "name: \"x\" data_type: TYPE_FP32 dims: [ -1, 2 ]";
/// Two branches that meet: what the models give to a point differs by two.
const DIAMOND: [(&str, &str, &str); 3] = [
    ("difference", "left=high right=low", "difference=spread"),
    ("minus", "x=x", "score=low"),
    ("plus", "x=x", "score=high"),
];

fn put_diamond(folder: &Path) {
    for (model, file) in [
        ("minus", "linear_minus_one.onnx"),
        ("plus", "linear_plus_one.onnx"),
        ("difference", "difference.onnx"),
    ] {
        put(folder, model, file);
    }
    put_ensemble(folder, "spread", X, &DIAMOND, "name: \"spread\" data_type: TYPE_FP32 dims: [ -1, 1 ]");
}

async fn spread(serving: &Serving) -> (StatusCode, Value) {
    serving.post("/v2/models/spread/infer", &point([0.5, 0.0])).await
}

/// Waits for a model's state, and gives its reason.
async fn state(serving: &Serving, model: &str, wanted: &str) -> String {
    eventually(&format!("{model} is {wanted}"), || async move {
        let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
        let known = index.as_array()?.iter().find(|known| known["name"] == model)?.clone();
        (known["state"] == wanted).then(|| known["reason"].as_str().expect("a reason").to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_of_a_folder_answers_as_one_model() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    put_diamond(models.path());
    let folder = models.path().display().to_string();
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_MODEL_DIR", &folder)]).await;
    serving.wait_until_ready().await;
    let (status, answer) = spread(&serving).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!((&answer["model_name"], &answer["model_version"]), (&json!("spread"), &json!("1")));
    let expected = json!([{"name": "spread", "datatype": "FP32", "shape": [1, 1], "data": [2.0]}]);
    assert_eq!(answer["outputs"], expected);

    let (_, metadata) = serving.get("/v2/models/spread").await;
    assert_eq!(
        (&metadata["platform"], &metadata["inputs"][0]["shape"]),
        (&json!("ensemble"), &json!([-1, 2]))
    );
    let (_, config) = serving.get("/v2/models/spread/config").await;
    let steps = config["ensemble_scheduling"]["step"].as_array().expect("steps");
    assert_eq!((steps.len(), &steps[1]["output_map"]["score"]), (3, &json!("low")));
    for model in ["spread", "minus", "difference"] {
        let (_, stats) = serving.get(&format!("/v2/models/{model}/stats")).await;
        assert_eq!(stats["model_stats"][0]["inference_stats"]["success"]["count"], 1, "{model}");
    }
    // KServe's v1 goes through, too, with many rows.
    let rows = json!({"instances": [[0.0, 0.0], [1.0, 1.0], [2.0, 0.5]]});
    let (status, rows) = serving.post("/v1/models/spread:predict", &rows).await;
    assert_eq!(status, StatusCode::OK, "{rows}");
    assert_eq!(rows["predictions"].as_array().map(Vec::len), Some(3));
    // What does not fit is the client's fault.
    let wide = json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]});
    let (status, refused) = serving.post("/v2/models/spread/infer", &wide).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    drop(serving);

    // One model in memory at a time: each step has its own loaded.
    let more = [("SLIPWAY_SERVING_MODEL_DIR", folder.as_str()), ("SLIPWAY_SERVING_MEMORY_LIMIT_BYTES", "1")];
    let serving = Serving::start(&world, &cache, &more).await;
    serving.wait_until_ready().await;
    for _ in 0..3 {
        let (status, answer) = spread(&serving).await;
        assert_eq!((status, &answer["outputs"]), (StatusCode::OK, &expected), "{answer}");
    }
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_follows_its_models_and_says_which_step_is_to_blame() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    let folder = models.path();
    put_diamond(folder);
    put(folder, "gather", "gather.onnx");
    put(folder, "slow", "slow.onnx");
    let entry = "name: \"y\" data_type: TYPE_FP32 dims: [ -1 ]";
    let index = "name: \"i\" data_type: TYPE_INT64 dims: [ -1 ]";
    put_ensemble(folder, "picks", index, &[("gather", "index=i", "entry=y")], entry);
    let mismatch = [("minus", "x=x", "score=s"), ("gather", "index=s", "entry=y")];
    put_ensemble(folder, "mismatch", X, &mismatch, entry);
    put_ensemble(folder, "orphan", X, &[("late", "x=x", "score=y")], "name: \"y\"");
    let cycle = [
        ("plus", "x=x", "score=w"),
        ("difference", "left=w right=z", "difference=y"),
        ("difference", "left=y right=w", "difference=z"),
    ];
    put_ensemble(folder, "cycle", X, &cycle, "name: \"y\"");
    put_ensemble(
        folder,
        "twice",
        X,
        &[("minus", "x=x", "score=y"), ("plus", "x=x", "score=y")],
        "name: \"y\"",
    );
    put(folder, "animals", "classes.onnx");
    std::fs::write(folder.join("animals/labels.txt"), "cat\ndog\nhorse\n").unwrap();
    let labelled = "output [ { name: \"scores\" label_filename: \"labels.txt\" } ]";
    std::fs::write(folder.join("animals/config.pbtxt"), labelled).unwrap();
    put_ensemble(
        folder,
        "ranked",
        "name: \"s\"",
        &[("animals", "scores_in=s", "scores=ranks")],
        "name: \"ranks\"",
    );
    let sleepy = [("slow", "x=x numbers=n text=t flags=f", "burnt=y")];
    let inputs = "name: \"x\" }, { name: \"n\" }, { name: \"t\" }, { name: \"f\"";
    put_ensemble(folder, "sleepy", inputs, &sleepy, "name: \"y\"");
    let shown = folder.display().to_string();
    let more = [("SLIPWAY_SERVING_MODEL_DIR", shown.as_str()), ("SLIPWAY_SERVING_STRICT_READINESS", "false")];
    let serving = Serving::start(&world, &cache, &more).await;
    // Those that cannot be served do not keep the replica from the others, where that is wanted.
    serving.wait_until_ready().await;
    for (model, expected) in [
        (
            "mismatch",
            "step 2 ('gather') takes 's' as its input 'index' of INT64 [-1], but it is FP32 [-1, 1]",
        ),
        (
            "cycle",
            "step 2 ('difference'), step 3 ('difference') can never run: what they take comes from a cycle",
        ),
        ("twice", "step 2 ('plus') gives the tensor 'y', which step 1 ('minus') gives, too"),
    ] {
        let reason = state(&serving, model, "UNAVAILABLE").await;
        assert!(reason.contains(expected), "{model}: {reason}");
        let (status, answer) = serving.post(&format!("/v2/models/{model}/infer"), &point([0.0, 0.0])).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(expected), "{answer}");
    }

    // One whose model is not here waits for it.
    let missing = "step 1 ('late') cannot be called: there is no model 'late'";
    assert_eq!(state(&serving, "orphan", "LOADING").await, missing);
    let (status, answer) = serving.post("/v2/models/orphan/infer", &point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains(missing), "{answer}");
    // What is wrong is worth a warning, what is still to come is not.
    let warned: Vec<String> =
        serving.log().lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect();
    let about = |text: &str| warned.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        (
            about(missing),
            about("ensemble is not servable") + about("ensemble waits for"),
            about("is loading")
        ),
        (1, 2, 0),
        "{warned:#?}"
    );

    let pick =
        |index: i64| json!({"inputs": [{"name": "i", "shape": [1], "datatype": "INT64", "data": [index]}]});
    assert_eq!(serving.post("/v2/models/picks/infer", &pick(1)).await.1["outputs"][0]["data"], json!([2.0]));
    let (status, failed) = serving.post("/v2/models/picks/infer", &pick(7)).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let told = failed["error"].as_str().unwrap();
    assert!(told.starts_with("step 1 ('gather'): the model failed: "), "{told}");

    // Classes are called what the model that gives them calls them.
    let classes = json!({
        "inputs": [{"name": "s", "shape": [1, 3], "datatype": "FP32", "data": [0.1, 0.7, 0.2]}],
        "outputs": [{"name": "ranks", "parameters": {"classification": 1}}]
    });
    let (_, answer) = serving.post("/v2/models/ranked/infer", &classes).await;
    assert_eq!(answer["outputs"][0]["data"], json!(["0.700000:1:dog"]), "{answer}");

    // The time of a request is the time of all its steps.
    let hurried = json!({"parameters": {"timeout": 1}, "inputs": [
        {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]},
        {"name": "n", "shape": [1, 1], "datatype": "INT64", "data": [1]},
        {"name": "t", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]},
        {"name": "f", "shape": [1], "datatype": "BOOL", "data": [true]}]});
    let (status, late) = serving.post("/v2/models/sleepy/infer", &hurried).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{late}");
    assert!(late["error"].as_str().unwrap().contains("timeout of 1 µs"), "{late}");

    // A model that comes mends the ensemble that waits for it; one that goes takes its ensembles along.
    put(folder, "late", "linear_plus_one.onnx");
    state(&serving, "orphan", "READY").await;
    let (_, answer) = serving.post("/v2/models/orphan/infer", &point([0.0, 0.0])).await;
    assert_eq!(answer["outputs"][0]["data"], json!([1.0]));
    std::fs::remove_dir_all(folder.join("minus")).unwrap();
    let reason = state(&serving, "spread", "LOADING").await;
    assert_eq!(reason, "step 2 ('minus') cannot be called: there is no model 'minus'");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_of_the_registry_leaves_records_of_itself_and_of_its_steps() {
    let (world, cache) = (World::start().await, cache());
    let stable = world.version("1", "linear_minus_one.onnx").await;
    let definition = json!({
        "inputs": [{"name": "rows"}],
        "steps": [{"model": "points", "version": "1", "inputs": {"x": "rows"},
            "outputs": {"label": "verdict"}}],
        "outputs": [{"name": "verdict", "datatype": "INT64"}]
    });
    let definition = definition.to_string().into_bytes().into();
    let ensemble = world.register("judge", "7", &[("slipway-ensemble.json", &definition, &definition)]).await;
    let judge = TrafficTable { revision: 1, stable: Some(ensemble), ..TrafficTable::empty("judge", "judge") };
    world.put(&judge).await;
    let serving = Serving::start(&world, &cache, &[]).await;
    // The rollout controller gets what it waits for, and a new replica that cannot answer for it is not
    // ready.
    let waits = "step 1 ('points') cannot be called: there is no model 'points'";
    let is_told = |version: &VersionStatus| version.reason.as_deref() == Some(waits);
    let told = world.status_of("judge", waits, |status| status.versions.iter().any(is_told)).await;
    assert_eq!(told.versions[0].state, VersionState::Loading);
    assert_eq!(state(&serving, "judge", "LOADING").await, waits);
    let (status, readiness) = serving.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(readiness["waiting_for"]["failed-models"], format!("judge/7: {waits}"), "{readiness}");
    world.put(&table(1, &stable)).await;
    state(&serving, "judge", "READY").await;
    serving.wait_until_ready().await;
    let body =
        json!({"inputs": [{"name": "rows", "shape": [2, 2], "datatype": "FP32", "data": [0, 0, 3, 3]}]});
    let request = serving.http.post(serving.url("/v2/models/judge/infer")).header("x-request-id", "r-1");
    let (status, answered) = answer(request.json(&body)).await;
    assert_eq!(status, StatusCode::OK, "{answered}");
    assert_eq!(
        answered["outputs"],
        json!([{"name": "verdict", "datatype": "INT64", "shape": [2], "data": [0, 1]}])
    );
    let records = world.records("both are recorded", |records| records.len() >= 2).await;
    let mut recorded: Vec<_> = records
        .iter()
        .map(|record| (record.deployment.as_str(), record.version.as_str(), record.request_id.as_str()))
        .collect();
    recorded.sort_unstable();
    assert_eq!(recorded, [("judge", "7", "r-1"), ("points", "1", "r-1")]);
}
