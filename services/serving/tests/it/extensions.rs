//! The extensions of Open Inference Protocol v2 that describe and steer the server, over REST.

use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::traffic::TrafficTable;

use crate::serving::{Serving, answer, cache, point};
use crate::world::{DEPLOYMENT, World, canary, table};

fn rows_of(count: usize) -> Value {
    json!({"inputs": [{"name": "x", "shape": [count, 2], "datatype": "FP32", "data": vec![1; 2 * count]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_tell_where_the_time_went_by_batch_size() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    for count in [1, 3, 1] {
        assert_eq!(serving.infer(&rows_of(count)).await.0, StatusCode::OK);
    }
    let wrong = json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]});
    assert_eq!(serving.infer(&wrong).await.0, StatusCode::BAD_REQUEST);

    let (status, body) = serving.get(&format!("/v2/models/{DEPLOYMENT}/stats")).await;
    assert_eq!(status, StatusCode::OK);
    let stats = &body["model_stats"][0];
    assert_eq!((&stats["name"], &stats["version"]), (&json!(DEPLOYMENT), &json!("1")));
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(5), &json!(3)));
    assert!(stats["last_inference"].as_u64().unwrap() > 1_700_000_000_000, "{stats}");
    let times = &stats["inference_stats"];
    assert_eq!((&times["success"]["count"], &times["fail"]["count"]), (&json!(3), &json!(1)));
    let nanoseconds = |part: &str| times[part]["ns"].as_u64().unwrap();
    for part in ["queue", "compute_input", "compute_infer", "compute_output"] {
        assert_eq!(times[part]["count"], 3);
        // A request that finds the model free waits for nothing.
        assert!(nanoseconds(part) > 0 || part == "queue", "{part} took no time: {times}");
    }
    let parts = nanoseconds("compute_input") + nanoseconds("compute_infer") + nanoseconds("compute_output");
    assert!(parts < nanoseconds("success"), "{times}");
    let batches: Vec<_> = stats["batch_stats"].as_array().unwrap().iter().collect();
    let counts: Vec<_> =
        batches.iter().map(|batch| (&batch["batch_size"], &batch["compute_infer"]["count"])).collect();
    assert_eq!(counts, [(&json!(1), &json!(2)), (&json!(3), &json!(1))]);

    for unknown in ["/v2/models/other/stats", &format!("/v2/models/{DEPLOYMENT}/versions/9/stats")] {
        let (status, body) = serving.get(unknown).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(body["error"].as_str().unwrap().contains("unknown"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_has_the_signature_and_the_settings() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&canary(1, &first, &second, 0)).await;
    let settings = [("SLIPWAY_SERVING_INSTANCES", "2"), ("SLIPWAY_SERVING_QUEUE_LIMIT", "77")];
    let serving = Serving::start(&world, &cache, &settings).await;
    world.routed(1).await;
    let (status, config) = serving.get(&format!("/v2/models/{DEPLOYMENT}/config")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(config["version_policy"], json!({"specific": {"versions": [1, 2]}}));
    assert_eq!(
        (&config["instance_group"][0]["count"], &config["instance_group"][0]["kind"]),
        (&json!(2), &json!("KIND_CPU"))
    );
    assert_eq!(config["parameters"]["max_queue_size"], json!({"string_value": "77"}));
    // Rows are joined, so the batch is told apart from the shape, as Triton does.
    assert_eq!((&config["max_batch_size"], &config["input"][0]["dims"]), (&json!(8), &json!([2])));
    assert_eq!((&config["output"][0]["dims"], &config["output"][1]["dims"]), (&json!([1]), &json!([])));
    assert_eq!(config["dynamic_batching"]["max_queue_delay_microseconds"], 0);
    assert_eq!(config["output"][1]["data_type"], "TYPE_INT64");
    assert_eq!(config["model_transaction_policy"]["decoupled"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_are_the_highest_scores_of_each_row() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "classes.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let request = |parameters: Value| {
        json!({"inputs": [{"name": "scores_in", "shape": [2, 3], "datatype": "FP32",
                           "data": [0.018394, 0.9, 0.5, -1, -3, -2]}],
               "outputs": [{"name": "scores", "parameters": parameters}]})
    };
    let (status, body) = serving.infer(&request(json!({"classification": 2}))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        body["outputs"],
        json!([{"name": "scores", "datatype": "BYTES", "shape": [2, 2],
                "data": ["0.900000:1", "0.500000:2", "-1.000000:0", "-2.000000:2"]}])
    );
    let (_, body) = serving.infer(&request(json!({"classification": 10}))).await;
    assert_eq!(body["outputs"][0]["shape"], json!([2, 3]));
    for wrong in [json!(0), json!("many")] {
        let (status, body) = serving.infer(&request(json!({"classification": wrong}))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body["error"].as_str().unwrap().contains("output 'scores': classification expects"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_places_versions_is_told_to_those_who_try() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let model = |action: &str| format!("/v2/repository/models/{DEPLOYMENT}/{action}");
    let load = serving.http.post(serving.url(&model("load")));
    assert_eq!(answer(load).await, (StatusCode::OK, json!({})), "what is ready is loaded");
    let refusals = [
        (model("load"), json!({"parameters": {"config": "{}"}}), 400, "its files come from the registry"),
        (model("unload"), json!({"parameters": {"unload_dependents": true}}), 400, "rollout controller"),
        ("/v2/repository/models/other/load".to_owned(), json!({}), 404, "create a deployment of that name"),
        ("/v2/repository/mine/models/other/load".to_owned(), json!({}), 404, "no repository 'mine'"),
        (model("load"), json!([1]), 400, "expected an object"),
    ];
    for (path, body, status, text) in refusals {
        let (found, body) = serving.post(&path, &body).await;
        assert_eq!(found.as_u16(), status, "{path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(text), "{path}: {body}");
    }
    let gone = serving.http.post(serving.url("/v2/repository/models/other/unload"));
    assert_eq!(answer(gone).await.0, StatusCode::OK, "what is not there is unloaded");
    assert_eq!(serving.predict([1.0, 1.0]).await.label, 1, "it stayed loaded");

    world.put(&table(2, &world.version("2", "sequence.onnx").await)).await;
    world.failed("2").await;
    assert_eq!(serving.post(&model("load"), &json!({})).await.0, StatusCode::OK, "version 1 still answers");
    let only_failed = TrafficTable {
        stable: Some(world.version("3", "sequence.onnx").await),
        ..TrafficTable::empty("broken", DEPLOYMENT)
    };
    world.put(&only_failed).await;
    let refused = async || {
        let (status, body) = serving.post("/v2/repository/models/broken/load", &json!({})).await;
        (status == StatusCode::BAD_REQUEST).then_some(body)
    };
    let body = crate::world::eventually("the load is refused", refused).await;
    assert!(body["error"].as_str().unwrap().contains("protocol carries tensors only"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_changes_and_what_is_fixed_is_told() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_LOG", "warn,slipway_serving=debug")]).await;
    serving.wait_until_ready().await;
    let log = json!({"log_file": "", "log_info": true, "log_warning": true, "log_error": true,
                     "log_verbose_level": 1, "log_format": "default"});
    assert_eq!(serving.get("/v2/logging").await, (StatusCode::OK, log.clone()));
    assert_eq!(serving.post("/v2/logging", &log).await, (StatusCode::OK, log.clone()), "nothing changes");
    let (status, body) = serving.post("/v2/logging", &json!({"log_file": "/tmp/log"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("'log_file' is fixed"), "{body}");
    // From now on the log has more or less in it; a refusal for a broken body is logged at the level of
    // debugging.
    let set = async |settings: serde_json::Value| serving.post("/v2/logging", &settings).await.1;
    let less = set(json!({"log_verbose_level": 0, "log_info": false})).await;
    assert_eq!((&less["log_info"], &less["log_warning"]), (&json!(false), &json!(true)));
    // Warnings and errors stay, whoever calls.
    for quiet in [
        json!({"log_warning": false}),
        json!({"log_warning": false, "log_error": false}),
        json!({"log_verbose_level": 0, "log_info": false, "log_warning": false, "log_error": false}),
    ] {
        let (status, body) = serving.post("/v2/logging", &quiet).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body["error"].as_str().unwrap().contains("cannot be off"), "{body}");
        assert_eq!(serving.get("/v2/logging").await.1["log_warning"], true);
    }
    let more = set(json!({"log_info": true, "log_verbose_level": 2})).await;
    assert_eq!((&more["log_verbose_level"], &more["log_info"]), (&json!(2), &json!(true)));
    assert_eq!(set(json!({"log_verbose_level": 0})).await["log_verbose_level"], 0);
    // Each change is in the log with who made it, however little is logged.
    let changes: Vec<String> = serving
        .log()
        .lines()
        .filter(|line| line.contains("client changed the log settings"))
        .map(str::to_owned)
        .collect();
    for (line, filter) in changes.iter().zip(["warn", "info,slipway=trace", "info"]) {
        assert!(line.contains("by=127.0.0.1:") && line.contains("without a token"), "{line}");
        assert!(line.contains(&format!("filter=\"{filter}\"")), "{line}");
    }
    assert_eq!(changes.len(), 3, "{}", serving.log());
    let refused = serving.log().matches("rejected: a client cannot turn off warnings and errors").count();
    assert_eq!(refused, 3);

    let trace = json!({"trace_level": ["OFF"], "trace_rate": "1", "trace_count": "-1",
                       "log_frequency": "0", "trace_file": "", "trace_mode": "opentelemetry"});
    let of_model = format!("/v2/models/{DEPLOYMENT}/trace/setting");
    for path in ["/v2/trace/setting", &of_model] {
        assert_eq!(serving.get(path).await, (StatusCode::OK, trace.clone()));
        let same = serving.post(path, &json!({"trace_level": ["OFF"], "trace_rate": null})).await;
        assert_eq!(same, (StatusCode::OK, trace.clone()));
        let (status, body) = serving.post(path, &json!({"trace_level": ["TIMESTAMPS"]})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body["error"].as_str().unwrap().contains("SLIPWAY_OTLP_ENDPOINT"), "{body}");
    }
    assert_eq!(serving.get("/v2/models/other/trace/setting").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_a_body_that_says_why() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let (get, post) =
        (|path: &str| serving.http.get(serving.url(path)), |path: &str| serving.http.post(serving.url(path)));
    let infer = format!("/v2/models/{DEPLOYMENT}/infer");
    let shared = json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32",
                        "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8}}]});
    let refusals = [
        (get("/v2/models/other"), 404),
        (get("/v2/models/%FF/ready"), 400),
        (get("/v2/models/a/versions/x1/ready"), 404),
        (get("/v1/models/other"), 404),
        (get("/v2/nothing/here"), 404),
        (get(&infer), 405),
        (get("/v2/repository/index"), 405),
        (post("/v2/repository/index").body("{"), 400),
        (post(&infer).body("{\"inputs\": 3}"), 400),
        (post(&infer).body(""), 400),
        (post(&infer).json(&json!({"inputs": [], "id": 7})), 400),
        (post(&infer).header("content-encoding", "br").json(&point([0.0, 0.0])), 501),
        (post(&infer).json(&shared), 501),
        (post("/v2/systemsharedmemory/region/r/register").json(&json!({"key": "/k"})), 501),
        (get("/v2/systemsharedmemory/region/r/status"), 404),
        (post(&format!("/v1/models/{DEPLOYMENT}:predict")).body("{}"), 400),
        (post(&format!("/v1/models/{DEPLOYMENT}:explain")).body("{}"), 501),
    ];
    for (request, status) in refusals {
        let sent = request.try_clone().unwrap().build().unwrap();
        let (found, body) = answer(request).await;
        assert_eq!(found.as_u16(), status, "{} {}: {body}", sent.method(), sent.url());
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{}: {body}", sent.url());
    }
    for (request, allowed) in [
        (get(&format!("/v1/models/{DEPLOYMENT}:predict")), "POST"),
        (get("/v1/models/other:explain"), "POST"),
        (post(&format!("/v1/models/{DEPLOYMENT}")), "GET, HEAD"),
    ] {
        let refused = request.send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.headers()["allow"], allowed);
    }
    for kind in ["systemsharedmemory", "cudasharedmemory"] {
        assert_eq!(serving.get(&format!("/v2/{kind}/status")).await, (StatusCode::OK, json!([])));
        assert_eq!(answer(post(&format!("/v2/{kind}/unregister"))).await.0, StatusCode::OK);
    }
    let head = serving.http.head(serving.url("/v2/health/live")).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(serving.predict([1.0, 1.0]).await.label, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_given_up_when_its_client_no_longer_waits() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&canary(1, &first, &second, 100)).await;
    let serving = Serving::start(&world, &cache, &[]).await;
    world.routed(1).await;
    let with_timeout = |rows: usize, timeout: Value| {
        let mut body = rows_of(rows);
        body["parameters"] = json!({ "timeout": timeout });
        body
    };
    // A million rows take longer than a millisecond.
    let (status, body) = serving.infer(&with_timeout(1_000_000, json!(1))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body["error"].as_str().unwrap().contains("timeout of 1 µs expired"), "{body}");
    for enough in [json!(20_000_000), json!(0), json!(null)] {
        assert_eq!(serving.infer(&with_timeout(1, enough)).await.0, StatusCode::OK);
    }
    let (status, body) = serving.infer(&with_timeout(1, json!("soon"))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("'timeout' expects"), "{body}");
    let records = world.records("three records", |records| records.len() >= 3).await;
    assert!(
        records.iter().all(|record| record.error.is_none()),
        "the client's haste is not the version's fault"
    );
}
