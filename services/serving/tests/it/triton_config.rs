//! `config.pbtxt`: what it says of versions and tensors is obeyed, or refused with the reason.

use std::path::Path;

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::inference::model_infer_request::InferInputTensor;
use slipway_api::inference::{InferTensorContents, ModelInferRequest};

use crate::serving::{Serving, UNSET, cache, point};
use crate::world::{World, fixture};

fn put(folder: &Path, model: &str, version: &str, file: &str, config: &str) {
    let model = folder.join(model);
    std::fs::create_dir_all(model.join(version)).expect("the folder is made");
    std::fs::write(model.join(version).join("model.onnx"), fixture(file)).expect("the model is written");
    std::fs::write(model.join("config.pbtxt"), config).expect("the configuration is written");
}

async fn serve(world: &World, cache: &tempfile::TempDir, folder: &Path) -> Serving {
    let folder = folder.display().to_string();
    let settings = [
        ("SLIPWAY_SERVING_MODEL_DIR", folder.as_str()),
        ("SLIPWAY_NATS_URL", UNSET),
        ("SLIPWAY_SERVING_STRICT_READINESS", "false"),
    ];
    let serving = Serving::start(world, cache, &settings).await;
    serving.wait_until_ready().await;
    serving
}

/// The state and the reason of each version of a model.
async fn states(serving: &Serving, model: &str) -> Vec<(String, String, String)> {
    let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
    let text = |entry: &Value, field: &str| entry[field].as_str().expect("text").to_owned();
    let entries = index.as_array().expect("a list").iter().filter(|entry| entry["name"] == model);
    entries.map(|entry| (text(entry, "version"), text(entry, "state"), text(entry, "reason"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_model_is_refused_with_field_value_and_what_was_expected() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    let input = |more: &str| format!("max_batch_size: 4 input {{ name: \"x\" {more} }}");
    for (model, config, expected) in [
        ("name", "name: \"other\"".to_owned(), "name is 'other'; expected 'name', as its folder is called"),
        ("backend", "backend: \"python\"".to_owned(), "backend is 'python'; expected 'onnxruntime'"),
        ("platform", "platform: \"tensorrt_plan\"".to_owned(), "expected 'onnxruntime_onnx'"),
        ("type", input("data_type: TYPE_INT32"), "input 'x': data_type is INT32; the model has FP32"),
        ("dims", input("dims: [ 3 ]"), "input 'x': dims is [3]; the model has [2] behind the batch"),
        ("whole", input("dims: [ -1, 2 ]"), "input 'x': dims is [-1, 2]; the model has [2] behind the batch"),
        ("reshape", input("dims: [ 4 ] reshape { shape: [ 3 ] }"), "changes the number of elements"),
        ("unknown", "input { name: \"z\" }".to_owned(), "input 'z' is no input of the model; expected 'x'"),
        ("output", "output { name: \"z\" }".to_owned(), "expected 'score', 'label'"),
        ("typo", "max_batchsize: 4".to_owned(), "max_batchsize is no field of Triton's model configuration"),
        ("states", "sequence_batching { }".to_owned(), "sequence_batching is not supported"),
        ("gone", "version_policy { specific { versions: 7 } }".to_owned(), "its folder is not there"),
    ] {
        put(models.path(), model, "1", "linear_minus_one.onnx", &config);
        let serving = serve(&world, &cache, models.path()).await;
        let states = states(&serving, model).await;
        let (_, state, reason) = states.first().expect("a version");
        assert_eq!(state, "UNAVAILABLE", "{model}: {states:?}");
        assert!(reason.contains(expected), "{model}: {reason}");
        let (status, body) = serving.post(&format!("/v2/models/{model}/infer"), &point([0.0, 0.0])).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{model}");
        assert!(body["error"].as_str().unwrap().contains(expected), "{model}: {body}");
        std::fs::remove_dir_all(models.path().join(model)).unwrap();
    }
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn what_fits_the_model_is_obeyed() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    put(
        models.path(),
        "points",
        "1",
        "linear_minus_one.onnx",
        "name: \"points\" backend: \"onnxruntime\" platform: \"onnxruntime_onnx\" max_batch_size: 2\n\
         input { name: \"x\" data_type: TYPE_FP32 dims: [ 2 ] format: FORMAT_NONE }\n\
         output { name: \"score\" data_type: TYPE_FP32 dims: [ 1 ] }",
    );
    // One number per row has the form [ 1 ] in Triton.
    put(
        models.path(),
        "gather",
        "1",
        "gather.onnx",
        "max_batch_size: 8 input \
         { name: \"index\" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } }\noutput \
         { name: \"entry\" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }",
    );
    for version in ["1", "2", "3"] {
        let policy = "version_policy { latest { num_versions: 2 } }";
        put(models.path(), "latest", version, "linear_plus_one.onnx", policy);
    }
    // The model takes any number of rows, this folder two.
    let fixed = "input { name: \"x\" data_type: TYPE_FP32 dims: [ 2, 2 ] }";
    put(models.path(), "fixed", "1", "linear_plus_one.onnx", fixed);
    let serving = serve(&world, &cache, models.path()).await;

    let (status, answer) = serving.infer(&point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        answer["outputs"],
        json!([{"name": "score", "datatype": "FP32", "shape": [1, 1], "data": [-1.0]}])
    );
    let (status, refused) =
        serving.infer(&json!({"inputs": point([0.0, 0.0])["inputs"], "outputs": [{"name": "label"}]})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    let rows = |count: usize| {
        json!({"inputs": [{"name": "x", "shape": [count, 2], "datatype": "FP32",
        "data": vec![0; 2 * count]}]})
    };
    assert_eq!(serving.infer(&rows(2)).await.0, StatusCode::OK);
    let (status, refused) = serving.infer(&rows(3)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(refused["error"], "the request has 3 rows; its max_batch_size is 2");

    let index = |shape: &[i64]| {
        json!({"inputs": [{"name": "index", "shape": shape, "datatype": "INT64",
        "data": [1, 0]}]})
    };
    let (status, answer) = serving.post("/v2/models/gather/infer", &index(&[2, 1])).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        (&answer["outputs"][0]["shape"], &answer["outputs"][0]["data"]),
        (&json!([2, 1]), &json!([2.0, 1.0]))
    );
    let (status, refused) = serving.post("/v2/models/gather/infer", &index(&[2])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    let (_, config) = serving.get("/v2/models/gather/config").await;
    assert_eq!((&config["max_batch_size"], &config["input"][0]["dims"]), (&json!(8), &json!([1])));

    let versions = states(&serving, "latest").await;
    assert_eq!(versions.iter().map(|version| version.0.as_str()).collect::<Vec<_>>(), ["2", "3"]);
    for (count, expected) in [(2, StatusCode::OK), (1, StatusCode::BAD_REQUEST)] {
        assert_eq!(serving.post("/v2/models/fixed/infer", &rows(count)).await.0, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_with_a_default_may_be_given_or_left_out() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    put(models.path(), "optional", "1", "optional.onnx", "");
    std::fs::remove_file(models.path().join("optional/config.pbtxt")).unwrap();
    let serving = serve(&world, &cache, models.path()).await;
    let x = json!({"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]});
    let t = json!({"name": "t", "shape": [1], "datatype": "FP32", "data": [10.0]});
    for (inputs, expected) in [
        (json!([x]), json!([1.5, 2.5])),
        (json!([x, t]), json!([11.0, 12.0])),
        (json!([t, x]), json!([11.0, 12.0])),
    ] {
        let (status, answer) = serving.post("/v2/models/optional/infer", &json!({"inputs": inputs})).await;
        assert_eq!((status, &answer["outputs"][0]["data"]), (StatusCode::OK, &expected), "{answer}");
    }
    let (_, metadata) = serving.get("/v2/models/optional").await;
    assert_eq!(metadata["inputs"][1], json!({"name": "t", "datatype": "FP32", "shape": [1]}));
    let (_, config) = serving.get("/v2/models/optional/config").await;
    assert_eq!(
        (&config["input"][0]["optional"], &config["input"][1]["optional"]),
        (&json!(false), &json!(true))
    );
    let rows = |rows: Value| json!({"instances": rows});
    let path = "/v1/models/optional:predict";
    let (status, answer) = serving.post(path, &rows(json!([[1.0, 2.0], [0.0, 0.0]]))).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"predictions": [[1.5, 2.5], [0.5, 0.5]]})));
    let (status, refused) = serving.post(path, &rows(json!([{"x": [1.0, 2.0], "t": 1.0}]))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("input 't'"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strings_that_are_not_utf8_travel_as_binary_data_only() {
    let (world, cache, models) = (World::start().await, cache(), cache());
    put(models.path(), "words", "1", "words.onnx", "");
    let serving = serve(&world, &cache, models.path()).await;
    // Two elements, each behind its length; the first is no UTF-8.
    let raw = b"\x02\0\0\0\xff\xfe\x02\0\0\0\xc3\xa4";
    let asked = |binary: bool| {
        let header = json!({"inputs": [{"name": "words_in", "shape": [2], "datatype": "BYTES",
                                        "parameters": {"binary_data_size": raw.len()}}],
                            "outputs": [{"name": "words", "parameters": {"binary_data": binary}}]});
        let header = header.to_string().into_bytes();
        let length = header.len().to_string();
        let body = [header, raw.to_vec()].concat();
        let request = serving.http.post(serving.url("/v2/models/words/infer")).body(body);
        request.header("inference-header-content-length", length).send()
    };
    let answer = asked(true).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.bytes().await.unwrap().ends_with(raw), "octet by octet");
    let refused = asked(false).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(
        refused["error"],
        "output 'words': element 0 is not UTF-8, which JSON cannot carry; ask for it as binary data"
    );
    // JSON is text, so a body that is not is no JSON; a NUL ends a string in ONNX Runtime's interface.
    let body =
        b"{\"inputs\":[{\"name\":\"words_in\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"\xff\"]}]}";
    let url = serving.url("/v2/models/words/infer");
    let refused = serving.http.post(&url).body(body.to_vec()).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let nul = json!({"inputs": [{"name": "words_in", "shape": [1], "datatype": "BYTES", "data": ["a\0b"]}]});
    let (status, refused) = serving.post("/v2/models/words/infer", &nul).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");

    let mut grpc = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    let mut input = InferInputTensor {
        name: "words_in".into(),
        datatype: "BYTES".into(),
        shape: vec![2],
        ..Default::default()
    };
    let request = |input: InferInputTensor, raw: Vec<Bytes>| ModelInferRequest {
        model_name: "words".into(),
        inputs: vec![input],
        raw_input_contents: raw,
        ..Default::default()
    };
    let answer = grpc.model_infer(request(input.clone(), vec![Bytes::from_static(raw)])).await.unwrap();
    assert_eq!(answer.into_inner().raw_output_contents, [Bytes::from_static(raw)]);
    let elements = vec![Bytes::from_static(b"\xff\xfe"), Bytes::from_static("ä".as_bytes())];
    input.contents = Some(InferTensorContents { bytes_contents: elements, ..Default::default() });
    let answer = grpc.model_infer(request(input, Vec::new())).await.unwrap();
    assert_eq!(answer.into_inner().raw_output_contents, [Bytes::from_static(raw)]);
}
