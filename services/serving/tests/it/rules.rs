//! Who answers whatever the weights say: rules by header, and the kill switch.

use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::inference::infer_parameter::ParameterChoice;
use slipway_api::traffic::{Shadow, TrafficTable};
use tonic::Code;

use crate::grpc::floats_request;
use crate::serving::{Serving, answer, cache, point};
use crate::world::{DEPLOYMENT, World, canary, eventually, table};

fn with(table: TrafficTable, rules: &Value, kill_switch: &Value) -> TrafficTable {
    let mut table = serde_json::to_value(table).expect("a table is JSON");
    (table["rules"], table["kill_switch"]) = (rules.clone(), kill_switch.clone());
    serde_json::from_value(table).expect("it is a table")
}

/// The versions that answer a few requests with these headers.
async fn versions(serving: &Serving, headers: &[(&str, &str)]) -> Vec<String> {
    let mut versions = Vec::new();
    for _ in 0..20 {
        let mut request = serving.http.post(serving.url(&format!("/v2/models/{DEPLOYMENT}/infer")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (status, body) = answer(request.json(&point([0.0, 0.0]))).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        versions.push(body["model_version"].as_str().expect("a version").to_owned());
    }
    versions.dedup();
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_sends_a_segment_to_its_version_over_every_protocol() {
    let (world, cache) = (World::start().await, cache());
    let stable = world.version("1", "linear_minus_one.onnx").await;
    let candidate = world.version("2", "linear_plus_one.onnx").await;
    let rules = json!([
        {"name": "never banks", "when": [{"header": "X-Tenant", "one_of": ["bank-1", "bank-2"]}],
            "to": "stable"},
        {"name": "our tests", "when": [{"header": "x-tenant", "prefix": "test-"}, {"header": "x-beta"}],
            "to": "candidate"},
    ]);
    // Without rules nobody would see the candidate.
    world.put(&with(canary(1, &stable, &candidate, 0), &rules, &Value::Null)).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    assert_eq!(versions(&serving, &[]).await, ["1"]);
    assert_eq!(versions(&serving, &[("x-tenant", "test-1")]).await, ["1"]);
    assert_eq!(versions(&serving, &[("x-tenant", "test-1"), ("x-beta", "1")]).await, ["2"]);
    assert_eq!(versions(&serving, &[("x-tenant", "test-1"), ("x-beta", "")]).await, ["1"]);

    // A parameter of the request does for clients that set no headers.
    let mut body = point([0.0, 0.0]);
    body["parameters"] = json!({"x-tenant": "test-2", "x-beta": "yes"});
    assert_eq!(serving.infer(&body).await.1["model_version"], "2");
    let mut client = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.expect("it listens");
    let mut request = tonic::Request::new(floats_request());
    request.metadata_mut().insert("x-tenant", "test-3".parse().expect("a value"));
    let beta = slipway_api::inference::InferParameter {
        parameter_choice: Some(ParameterChoice::StringParam("yes".into())),
    };
    request.get_mut().parameters.insert("x-beta".into(), beta);
    assert_eq!(client.model_infer(request).await.expect("an answer").into_inner().model_version, "2");

    // With all of the traffic on the candidate, the first rule still keeps its segment away from it.
    world.put(&with(canary(2, &stable, &candidate, 100), &rules, &Value::Null)).await;
    world.routed(2).await;
    assert_eq!(versions(&serving, &[]).await, ["2"]);
    assert_eq!(versions(&serving, &[("x-tenant", "bank-2")]).await, ["1"]);
    // Without a candidate the rule to it holds for nobody.
    world.put(&with(table(3, &stable), &rules, &Value::Null)).await;
    world.routed(3).await;
    assert_eq!(versions(&serving, &[("x-tenant", "test-1"), ("x-beta", "1")]).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_stops_a_trial_or_everything_and_waits_for_nothing() {
    let (world, cache) = (World::start().await, cache());
    let stable = world.version("1", "linear_minus_one.onnx").await;
    let candidate = world.version("2", "linear_plus_one.onnx").await;
    let rules = json!([{"when": [{"header": "x-beta"}], "to": "candidate"}]);
    let shadows = vec![Shadow { target: candidate.clone(), sample_percent: 100 }];
    let trial = |revision, switch: &Value| {
        let shadows = shadows.clone();
        with(TrafficTable { shadows, ..canary(revision, &stable, &candidate, 100) }, &rules, switch)
    };
    world.put(&trial(1, &Value::Null)).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    assert_eq!(versions(&serving, &[]).await, ["2"]);

    world.put(&trial(2, &json!({"mode": "stable-only"}))).await;
    world.routed(2).await;
    for headers in [&[][..], &[("x-beta", "1")]] {
        assert_eq!(versions(&serving, headers).await, ["1"], "{headers:?}");
    }
    let shadowed = format!(
        "slipway_serving_requests_total{{deployment=\"{DEPLOYMENT}\",version=\"2\",variant=\"shadow\""
    );
    assert!(!serving.shown().await.contains(&shadowed), "copies went on");

    // The table names a version that never loads: the switch does not wait for it.
    let missing = slipway_api::traffic::Target { version: "9".into(), digest: "sha256:00".into() };
    let refusing = json!({"mode": "refuse", "reason": "wrong prices since noon"});
    world.put(&with(table(3, &missing), &json!([]), &refusing)).await;
    let refused = eventually("requests are refused", async || {
        let request = serving.http.post(serving.url(&format!("/v2/models/{DEPLOYMENT}/infer")));
        let response = request.json(&point([0.0, 0.0])).send().await.expect("an answer");
        (response.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(response)
    });
    let refused = refused.await;
    assert!(refused.headers().contains_key("retry-after"));
    let told = refused.text().await.expect("a body");
    assert!(told.contains("switched off: wrong prices since noon"), "{told}");
    let (status, _) = serving.post("/v1/models/points:predict", &json!({"instances": [[0.0, 0.0]]})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let (status, _) = serving.post("/v2/models/points/versions/1/infer", &point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let mut client = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.expect("it listens");
    assert_eq!(client.model_infer(floats_request()).await.unwrap_err().code(), Code::Unavailable);

    world.put(&table(4, &stable)).await;
    world.routed(4).await;
    assert_eq!(versions(&serving, &[]).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_have_its_outputs_is_refused_before_it_runs() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    let mut body = point([0.0, 0.0]);
    body["outputs"] = json!([{"name": "no-such-output"}]);
    let (status, refused) = serving.infer(&body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(refused["error"].as_str().expect("an error").contains("'no-such-output'"), "{refused}");
    let (_, stats) = serving.get(&format!("/v2/models/{DEPLOYMENT}/stats")).await;
    assert_eq!(stats["model_stats"][0]["inference_stats"]["success"]["count"], 0, "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stable_version_that_does_not_load_is_told_though_another_stands_by() {
    let (world, cache) = (World::start().await, cache());
    let (bad, spare) =
        (world.version("2", "sequence.onnx").await, world.version("1", "linear_minus_one.onnx").await);
    world.put(&TrafficTable { warm: vec![spare], ..table(1, &bad) }).await;
    let serving = Serving::start(&world, &cache, &[]).await;
    world.failed("2").await;
    let told = eventually("the failure is reported", async || {
        let (_, body) = serving.infer(&point([0.0, 0.0])).await;
        let told = body["error"].as_str()?.contains("version 2 of model 'points' does not load");
        told.then_some(())
    });
    told.await;
    let (status, _) = serving.infer(&point([0.0, 0.0])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(serving.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
}
