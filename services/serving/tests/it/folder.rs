//! A local folder of models: no registry, no NATS.

use std::io::Write as _;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::json;
use slipway_testkit::onnx::{self, Attribute, Graph};

use crate::serving::{Serving, cache, point};
use crate::world::{World, eventually, fixture};

fn put(folder: &Path, version: &str, file: &str) {
    let version = folder.join("points").join(version);
    std::fs::create_dir_all(&version).expect("the folder is made");
    std::fs::write(version.join("model.onnx"), fixture(file)).expect("the model is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_of_a_folder_are_served_and_followed_without_registry_and_nats() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    world.registry.stop();
    put(models.path(), "1", "linear_minus_one.onnx");
    std::fs::write(
        models.path().join("points/config.pbtxt"),
        "max_batch_size: 4\ninstance_group [ { count: 3 } ]\ndynamic_batching \
         { preferred_batch_size: [ 2, 4 ] }\n",
    )
    .unwrap();
    let folder = models.path().display().to_string();
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_MODEL_DIR", &folder)]).await;
    serving.wait_until_ready().await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    let (_, config) = serving.get("/v2/models/points/config").await;
    assert_eq!(config["instance_group"][0]["count"], 3);
    assert_eq!(config["parameters"]["max_joined_rows"]["string_value"], "4");
    assert_eq!((&config["max_batch_size"], &config["input"][0]["dims"]), (&json!(4), &json!([2])));
    assert_eq!(config["dynamic_batching"]["preferred_batch_size"], json!([2, 4]));
    // What is there, the folder decides.
    for (call, told) in [
        ("points/unload", "stays loaded while it is in the folder of models; remove it there"),
        ("other/load", "clients load nothing here; put it into the folder of models"),
    ] {
        let (_, refused) = serving.post(&format!("/v2/repository/models/{call}"), &json!({})).await;
        assert!(refused["error"].as_str().unwrap().ends_with(told), "{refused}");
    }

    put(models.path(), "2", "linear_plus_one.onnx");
    eventually("version 2 answers", || async {
        (serving.predict([0.0, 0.0]).await.version == "2").then_some(())
    })
    .await;
    // The one before is still there for who names it.
    let (status, answer) = serving.post("/v2/models/points/versions/1/infer", &point([0.0, 0.0])).await;
    assert_eq!((status, &answer["outputs"][0]["data"]), (StatusCode::OK, &json!([-1.0])));

    // A version that does not load takes nothing away.
    put(models.path(), "3", "make_models.py");
    eventually("version 3 failed", || async {
        let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
        index
            .as_array()?
            .iter()
            .find(|model| model["version"] == "3" && model["state"] == "UNAVAILABLE")
            .map(|_| ())
    })
    .await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "2");
    std::fs::remove_dir_all(models.path().join("points")).unwrap();
    eventually("the model is gone", || async {
        (serving.infer(&point([0.0, 0.0])).await.0 == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_told_as_the_folder_says_even_where_nothing_is_joined() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    put(models.path(), "1", "linear_minus_one.onnx");
    let folder = models.path().display().to_string();
    let config = async |text: &str| {
        std::fs::write(models.path().join("points/config.pbtxt"), text).expect("it is written");
        let serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_MODEL_DIR", &folder)]).await;
        serving.wait_until_ready().await;
        serving.get("/v2/models/points/config").await.1
    };
    let told = config("max_batch_size: 16\n").await;
    assert_eq!((&told["max_batch_size"], &told["input"][0]["dims"]), (&json!(16), &json!([2])));
    assert_eq!(told["parameters"]["max_joined_rows"]["string_value"], "1");
    assert_eq!(told.get("dynamic_batching"), None);
    let told = config("max_batch_size: 0\n").await;
    assert_eq!((&told["max_batch_size"], &told["input"][0]["dims"]), (&json!(0), &json!([-1, 2])));
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_have_the_names_that_come_with_the_model() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    let model = models.path().join("animals");
    std::fs::create_dir_all(model.join("1")).unwrap();
    std::fs::write(model.join("1/model.onnx"), fixture("classes.onnx")).unwrap();
    std::fs::write(model.join("labels.txt"), "cat\ndog\n").unwrap();
    let config = "output [ { name: \"scores\" label_filename: \"labels.txt\" } ]\n";
    std::fs::write(model.join("config.pbtxt"), config).unwrap();
    let folder = models.path().display().to_string();
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_MODEL_DIR", &folder)]).await;
    serving.wait_until_ready().await;
    let body = json!({
        "inputs": [{"name": "scores_in", "shape": [1, 3], "datatype": "FP32", "data": [0.1, 0.7, 0.2]}],
        "outputs": [{"name": "scores", "parameters": {"classification": 3}}]
    });
    let (status, answer) = serving.post("/v2/models/animals/infer", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["outputs"][0]["data"], json!(["0.700000:1:dog", "0.200000:2", "0.100000:0:cat"]));
    let (_, config) = serving.get("/v2/models/animals/config").await;
    assert_eq!(config["output"][0]["label_filename"], "labels.txt");

    // Other names are other answers, without a restart.
    std::fs::write(model.join("labels.txt"), "cat\ndog\nhorse\n").unwrap();
    eventually("the third class has a name", || async {
        let (_, answer) = serving.post("/v2/models/animals/infer", &body).await;
        (answer["outputs"][0]["data"][1] == "0.200000:2:horse").then_some(())
    })
    .await;
    // A version says it in its settings; what is not there keeps it from being served.
    std::fs::write(model.join("1/slipway-serving.json"), r#"{"labels": {"scores": "lost.txt"}}"#).unwrap();
    eventually("the labels are missed", || async {
        let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
        index.to_string().contains("the labels `lost.txt` of output 'scores'").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_would_record_what_it_means_to_redact_is_not_served() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    put(models.path(), "1", "linear_minus_one.onnx");
    let settings = models.path().join("points/1/slipway-serving.json");
    std::fs::write(&settings, r#"{"records": {"redact": ["x[2]"]}}"#).unwrap();
    let folder = models.path().display().to_string();
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_MODEL_DIR", &folder)]).await;
    eventually("the redaction is refused", || async {
        let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
        let index = index.to_string();
        (index.contains("records.redact has 'x[2]'") && index.contains("UNAVAILABLE")).then_some(())
    })
    .await;
    std::fs::write(&settings, r#"{"records": {"redact": ["x[1]", "score"]}}"#).unwrap();
    eventually("it is served", || async {
        (serving.infer(&point([0.0, 0.0])).await.0 == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_are_written_over_in_place_change_no_answer_before_they_are_loaded() {
    const ENTRIES: usize = 16_384;
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    let version = models.path().join("table/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("model.onnx"), fixture("external.onnx")).unwrap();
    let data = version.join("external.data");
    let weights =
        |entry: f32| vec![entry; ENTRIES].into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    std::fs::write(&data, weights(1.0)).unwrap();
    let folder = models.path().display().to_string();
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_MODEL_DIR", &folder)]).await;
    serving.wait_until_ready().await;
    let last = ENTRIES - 1;
    let body = json!({"inputs": [{"name": "index", "shape": [2], "datatype": "INT64", "data": [0, last]}]});
    let ask = || async {
        let (status, answer) = serving.post("/v2/models/table/infer", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["outputs"][0]["data"].clone()
    };
    assert_eq!(ask().await, json!([1.0, 1.0]));
    // As `cp` does it: the file becomes empty, and then grows.
    let mut file = std::fs::File::create(&data).unwrap();
    assert_eq!(ask().await, json!([1.0, 1.0]));
    let (first, rest) = (weights(2.0), weights(2.0).split_off(4096));
    file.write_all(&first[..4096]).unwrap();
    assert_eq!(ask().await, json!([1.0, 1.0]));
    file.write_all(&rest).unwrap();
    drop(file);
    eventually("the new weights answer", || async {
        let answer = ask().await;
        assert!(answer == json!([1.0, 1.0]) || answer == json!([2.0, 2.0]), "{answer}");
        (answer == json!([2.0, 2.0])).then_some(())
    })
    .await;
    let copies = std::fs::read_dir(cache.path().join("serving/part")).unwrap().count();
    assert_eq!(copies, 0, "nothing is left of the copies");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classifier_with_zip_map_is_served_and_its_classes_are_named() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    world.nats.kill().await;
    let mut graph = Graph::default();
    graph.input("x", onnx::FLOAT, &[None, Some(2)]);
    graph.node("Softmax", &["x"], &["probabilities"], &[]);
    let classes = [("classlabels_strings", Attribute::Texts(vec!["ja".into(), "nein".into()]))];
    graph.node("ai.onnx.ml:ZipMap", &["probabilities"], &["output_probability"], &classes);
    graph.map_output("output_probability", onnx::STRING);
    let version = models.path().join("answers/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("model.onnx"), graph.model(17)).unwrap();
    let folder = models.path().display().to_string();
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_MODEL_DIR", &folder)]).await;
    serving.wait_until_ready().await;
    let inputs = json!([{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 1.0]}]);
    let (status, answer) = serving.post("/v2/models/answers/infer", &json!({"inputs": inputs})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let expected =
        json!({"name": "output_probability", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 0.5]});
    assert_eq!(answer["outputs"][0], expected);
    let wanted = json!([{"name": "output_probability", "parameters": {"classification": 2}}]);
    let (_, answer) =
        serving.post("/v2/models/answers/infer", &json!({"inputs": inputs, "outputs": wanted})).await;
    assert_eq!(answer["outputs"][0]["data"], json!(["0.500000:0:ja", "0.500000:1:nein"]));
    let (_, config) = serving.get("/v2/models/answers/config").await;
    let parameter = |name: &str| config["parameters"][name]["string_value"].clone();
    assert_eq!(parameter("classes.output_probability"), r#"["ja","nein"]"#);
    assert_eq!(parameter("requests_joined"), "true");
    assert_eq!(parameter("requests_joined_reason"), "every operator of the graph works row by row");
}
