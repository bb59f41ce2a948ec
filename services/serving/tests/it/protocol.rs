//! Open Inference Protocol v2 over REST.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::serving::{Serving, answer, cache, point};
use crate::world::{DEPLOYMENT, World, canary, table};

const HEADER_LENGTH: &str = "inference-header-content-length";

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn infer_url(serving: &Serving) -> String {
    serving.url(&format!("/v2/models/{DEPLOYMENT}/infer"))
}

#[tokio::test(flavor = "multi_thread")]
async fn json_and_binary_tensors_are_answered_right() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&canary(1, &first, &second, 0)).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;

    let body = json!({"id": "r-1",
        "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 1], [0, 0.25]]}]});
    let (status, answered) = serving.infer(&body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        answered,
        json!({"id": "r-1", "model_name": DEPLOYMENT, "model_version": "1", "outputs": [
            {"name": "score", "datatype": "FP32", "shape": [2, 1], "data": [2.0, -0.5]},
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]},
        ]})
    );
    let pinned = serving.post(&format!("/v2/models/{DEPLOYMENT}/versions/2/infer"), &body).await.1;
    assert_eq!((&pinned["model_version"], &pinned["outputs"][0]["data"]), (&json!("2"), &json!([4.0, 1.5])));
    let (status, rows) =
        serving.post(&format!("/v1/models/{DEPLOYMENT}:predict"), &json!({"instances": [[1, 1]]})).await;
    assert_eq!((status, rows), (StatusCode::OK, json!({"predictions": [{"score": [2.0], "label": 1}]})));

    // As tritonclient sends it: raw tensors behind the JSON, both ways.
    let head = json!({"parameters": {"binary_data_output": true}, "inputs": [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]})
    .to_string();
    let whole = [head.as_bytes(), &floats(&[1.0, 1.0])].concat();
    let request = serving.http.post(infer_url(&serving)).header(HEADER_LENGTH, head.len()).body(whole);
    let response = request.header("x-request-id", "r-2").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    assert_eq!(response.headers()["x-request-id"], "r-2");
    let length: usize = response.headers()[HEADER_LENGTH].to_str().unwrap().parse().unwrap();
    let bytes = response.bytes().await.unwrap();
    let json: Value = serde_json::from_slice(&bytes[..length]).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 4);
    assert_eq!(bytes[length..], [&floats(&[2.0])[..], &1_i64.to_le_bytes()].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_datatype_and_missing_values_go_through() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "identities.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let kinds = json!({"bool": [true, false], "int8": [-128, 127], "int16": [-32768, 5],
        "int32": [i32::MIN, 5],
        "int64": [i64::MIN, i64::MAX], "uint8": [0, 255], "uint16": [0, 65535], "uint32": [0, u32::MAX],
        "uint64": [0, u64::MAX], "fp32": [null, 0.1], "fp64": ["Infinity", 0.1],
            "bytes": ["", "Grüße \" \n"]});
    let kinds = kinds.as_object().unwrap();
    let input = |(kind, data): (&String, &Value)| {
        json!({"name": format!("{kind}_in"), "shape": [2], "datatype": kind.to_uppercase(),
            "data": data})
    };
    let head = |inputs: Vec<Value>| {
        json!({"outputs": kinds.keys()
        .map(|kind| json!({"name": format!("{kind}_out")})).collect::<Vec<_>>(), "inputs": inputs})
    };
    let mut inputs: Vec<Value> = kinds.iter().map(input).collect();
    inputs.push(
        json!({"name": "fp16_in", "shape": [2], "datatype": "FP16", "parameters": {"binary_data_size": 4}}),
    );
    let head = head(inputs).to_string();
    // Python writes a missing value as a bare NaN.
    let head = head.replace("[null,0.1]", "[NaN,0.1]");
    let body = [head.as_bytes(), &[0x00, 0x3c, 0x00, 0x3c]].concat();
    let request = serving.http.post(infer_url(&serving)).header(HEADER_LENGTH, head.len()).body(body);
    let (status, answered) = answer(request).await;
    assert_eq!(status, StatusCode::OK, "{answered}");
    for output in answered["outputs"].as_array().unwrap() {
        let kind = output["name"].as_str().unwrap().trim_end_matches("_out");
        let wanted = if kind == "fp32" { &json!(["NaN", 0.1]) } else { &kinds[kind] };
        assert_eq!(
            (&output["data"], output["datatype"].as_str().unwrap()),
            (wanted, kind.to_uppercase().as_str())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_told_what_is_wrong() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_MAX_BODY_BYTES", "100000")]).await;
    serving.wait_until_ready().await;
    let refusal = async |input: Value| {
        let (status, body) = serving.infer(&json!({"inputs": [input]})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        body["error"].as_str().unwrap().to_owned()
    };
    let input = |name: &str, shape: [i64; 2], datatype: &str, data: Value| {
        json!({"name": name, "shape": shape,
            "datatype": datatype, "data": data})
    };
    assert_eq!(
        refusal(input("y", [1, 2], "FP32", json!([1, 2]))).await,
        "unknown input 'y'; the model takes 'x'"
    );
    assert_eq!(
        refusal(input("x", [1, 3], "FP32", json!([1, 2, 3]))).await,
        "input 'x' has shape [1, 3]; the model expects [-1, 2]"
    );
    assert_eq!(
        refusal(input("x", [1, 2], "INT64", json!([1, 2]))).await,
        "input 'x' has datatype INT64; the model expects FP32"
    );
    assert!(
        refusal(input("x", [1, 2], "FP32", json!([1, "two"])))
            .await
            .contains("input 'x': element 1 is \"two\"")
    );
    assert_eq!(serving.infer(&json!({"inputs": []})).await.1["error"], "missing input 'x' (FP32 [-1, 2])");
    let unknown_output = json!({"inputs": point([0.0, 0.0])["inputs"], "outputs": [{"name": "nope"}]});
    let (status, body) = serving.infer(&unknown_output).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("'nope'"));
    assert_eq!(answer(serving.http.post(infer_url(&serving)).body("{")).await.0, StatusCode::BAD_REQUEST);

    let (status, body) = serving.post("/v2/models/other/infer", &point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body["error"].as_str().unwrap().contains("unknown model 'other'"));
    let (status, _) =
        serving.post(&format!("/v2/models/{DEPLOYMENT}/versions/9/infer"), &point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        serving.get(&format!("/v2/models/{DEPLOYMENT}/infer")).await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(serving.get("/v2/nothing").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_however_it_comes() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_MAX_BODY_BYTES", "100000")]).await;
    serving.wait_until_ready().await;
    let large = vec![b' '; 8_000_000];
    let post = || serving.http.post(infer_url(&serving));
    let announced = answer(post().body(large.clone())).await;
    let chunks = futures::stream::iter(
        large.chunks(100_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>(),
    );
    let chunked = answer(post().body(reqwest::Body::wrap_stream(chunks))).await;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&large).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 100_000);
    let bomb = answer(post().header("content-encoding", "gzip").body(packed)).await;
    for (status, body) in [announced, chunked, bomb] {
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(body["error"].as_str().unwrap().contains("over 100000 bytes"), "{body}");
    }
    let unknown = serving.http.post(serving.url("/v2/models/other/infer")).body(large);
    assert_eq!(answer(unknown).await.0, StatusCode::NOT_FOUND);
    assert_eq!(serving.predict([1.0, 1.0]).await.label, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_packed_both_ways_on_request() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let rows = 2_000;
    let body =
        json!({"inputs": [{"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": vec![1; 2 * rows]}]});
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(body.to_string().as_bytes()).unwrap();
    let request = serving.http.post(infer_url(&serving)).header("content-encoding", "deflate");
    let request = request.header("accept-encoding", "gzip").body(packed.finish().unwrap());
    let response = request.send().await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["content-encoding"]),
        (StatusCode::OK, &"gzip".parse().unwrap())
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(&response.bytes().await.unwrap()[..]).read_to_string(&mut text).unwrap();
    let answered: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answered["outputs"][1]["data"], json!(vec![1; rows]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_learns_what_is_served() {
    let (world, cache) = (World::start().await, cache());
    let serving = Serving::start(&world, &cache, &[]).await;
    serving.wait_until_ready().await;
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&canary(1, &first, &second, 0)).await;
    world.routed(1).await;
    serving.predict([1.0, 1.0]).await;

    let model = format!("/v2/models/{DEPLOYMENT}");
    assert_eq!(serving.get("/v2/health/live").await, (StatusCode::OK, json!({"live": true})));
    assert_eq!(serving.get("/v2/health/ready").await, (StatusCode::OK, json!({"ready": true})));
    assert_eq!(serving.get("/").await.1, json!({"status": "alive"}));
    assert_eq!(serving.get("/v2").await.1["extensions"][0], "binary_tensor_data");
    assert_eq!(serving.get("/v2/models").await.1, json!({"models": [DEPLOYMENT]}));
    let (_, metadata) = serving.get(&model).await;
    assert_eq!(
        metadata,
        json!({"name": DEPLOYMENT, "versions": ["1", "2"], "platform": "onnxruntime_onnx",
               "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
               "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1, 1]},
                           {"name": "label", "datatype": "INT64", "shape": [-1]}]})
    );
    assert_eq!(serving.get(&format!("{model}/versions/2")).await.1["versions"], json!(["2"]));
    assert_eq!(serving.get(&format!("{model}/ready")).await.0, StatusCode::OK);
    assert_eq!(serving.get(&format!("{model}/versions/7/ready")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(serving.get(&format!("{model}/versions/latest/ready")).await.0, StatusCode::NOT_FOUND);
    let (_, config) = serving.get(&format!("{model}/config")).await;
    assert_eq!(
        (&config["max_batch_size"], &config["input"][0]["data_type"]),
        (&json!(8), &json!("TYPE_FP32"))
    );
    let (_, statistics) = serving.get(&format!("{model}/versions/1/stats")).await;
    assert_eq!(statistics["model_stats"][0]["inference_count"], 1);
    assert_eq!(statistics["model_stats"][0]["inference_stats"]["success"]["count"], 1);
    assert_eq!(serving.get("/v2/models/stats").await.1["model_stats"].as_array().unwrap().len(), 2);
    let (_, index) = serving.post("/v2/repository/index", &json!({"ready": true})).await;
    assert_eq!(index[0], json!({"name": DEPLOYMENT, "version": "1", "state": "READY", "reason": ""}));
    assert_eq!(
        answer(serving.http.post(serving.url("/v2/repository/index"))).await.1.as_array().unwrap().len(),
        2
    );

    let metrics =
        serving.http.get(format!("{}/metrics", serving.metrics)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("slipway_serving_requests_total{deployment=\"points\",version=\"1\",variant=\"stable\",outcome=\"success\"} \
        1"));
    assert!(metrics.contains("nv_inference_count{model=\"points\",version=\"1\"} 1"));
}
