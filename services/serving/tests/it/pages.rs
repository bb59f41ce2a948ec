//! What a web page of another origin tries, on all three ports: it gets no prediction, changes nothing, and
//! reads nothing. What the protocol's own clients send is answered.

use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_testkit::{forge, rebind};

use crate::serving::{Serving, answer, cache, point};
use crate::world::{DEPLOYMENT, World, table};

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_change_and_read_nothing() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let bare = |url: &str| url.trim_start_matches("http://").to_owned();
    let (rest, grpc, metrics) = (bare(&serving.rest), bare(&serving.grpc), bare(&serving.metrics));
    let before = serving.get("/v2/logging").await;
    let infer = point([0.0, 1.0]).to_string();
    let logging = json!({"log_verbose_level": 1}).to_string();
    let mut passed = Vec::new();
    for (path, body) in [
        (format!("/v2/models/{DEPLOYMENT}/infer"), infer.as_str()),
        (format!("/v2/models/{DEPLOYMENT}/versions/1/infer"), infer.as_str()),
        (format!("/v2/models/%{:02x}{}/infer", DEPLOYMENT.as_bytes()[0], &DEPLOYMENT[1..]), infer.as_str()),
        (format!("/v1/models/{DEPLOYMENT}:predict"), r#"{"instances": [[0, 1]]}"#),
        (
            format!("/v1/deployments/{DEPLOYMENT}/labels"),
            r#"{"labels": [{"prediction_id": "p", "label": 1}]}"#,
        ),
        ("/v2/logging".to_owned(), logging.as_str()),
        ("/v2/trace/setting".to_owned(), r#"{"trace_rate": "1"}"#),
        (format!("/v2/models/{DEPLOYMENT}/trace/setting"), r#"{"trace_rate": "1"}"#),
        ("/v2/repository/index".to_owned(), "{}"),
        (format!("/v2/repository/models/{DEPLOYMENT}/load"), "{}"),
        (format!("/v2/repository/models/{DEPLOYMENT}/unload"), "{}"),
        ("/v2/systemsharedmemory/region/x/register".to_owned(), "{}"),
    ] {
        passed.extend(forge(&rest, "POST", &path, body).await);
    }
    for (address, path) in [(&grpc, "/inference.GRPCInferenceService/ModelInfer"), (&metrics, "/metrics")] {
        passed.extend(forge(address, "POST", path, &infer).await);
    }
    for (address, path) in [
        (&rest, "/v2"),
        (&rest, "/v2/models"),
        (&rest, "/metrics"),
        (&rest, "/readyz"),
        (&grpc, "/metrics"),
        (&grpc, "/readyz"),
        (&metrics, "/metrics"),
    ] {
        passed.extend(rebind(address, path).await);
    }
    assert!(passed.is_empty(), "{} forged requests passed:\n{}", passed.len(), passed.join("\n"));
    assert_eq!(serving.get("/v2/logging").await, before);
    let (_, stats) = serving.get(&format!("/v2/models/{DEPLOYMENT}/stats")).await;
    assert_eq!(stats["model_stats"][0]["inference_count"].as_u64().unwrap_or(0), 0, "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_types_that_the_protocols_clients_send_are_answered() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let infer = serving.url(&format!("/v2/models/{DEPLOYMENT}/infer"));
    let sent = |kind: Option<&str>| {
        let request = serving.http.post(&infer).body(point([0.0, 1.0]).to_string());
        match kind {
            Some(kind) => request.header("content-type", kind),
            // As tritonclient's does.
            None => request.header("user-agent", "python/gevent-http-client-2.6.1"),
        }
    };
    for kind in [
        None,
        Some("application/json"),
        Some("application/octet-stream"),
        Some("application/json; charset=utf-8"),
    ] {
        assert_eq!(answer(sent(kind)).await.0, StatusCode::OK, "{kind:?}");
    }
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"]
    {
        let (status, refused): (_, Value) = answer(sent(Some(kind))).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}: {refused}");
        let expected =
            format!("`Content-Type`: expected application/json or application/octet-stream, got `{kind}`");
        assert_eq!(refused, json!({ "error": expected }));
    }
    let own = sent(Some("application/json")).header("origin", &serving.rest);
    assert_eq!(answer(own).await.0, StatusCode::OK, "a page that this server itself sent");
}
