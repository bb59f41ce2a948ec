//! Requests that do not fit: each refusal names the field, what was expected, and where.

use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::inference as proto;
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::inference::infer_parameter::ParameterChoice;

use crate::serving::{Serving, answer, cache, point};
use crate::world::{DEPLOYMENT, World, table};

async fn one_model() -> (World, tempfile::TempDir, Serving) {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    (world, cache, serving)
}

/// Posts a body as it stands.
async fn post(serving: &Serving, path: &str, body: &str) -> (StatusCode, Value) {
    let request = serving.http.post(serving.url(path)).header("content-type", "application/json");
    answer(request.body(body.to_owned())).await
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_does_not_fit_is_named() {
    let (_world, _cache, serving) = one_model().await;
    let infer = format!("/v2/models/{DEPLOYMENT}/infer");
    let predict = format!("/v1/models/{DEPLOYMENT}:predict");
    let labels = format!("/v1/deployments/{DEPLOYMENT}/labels");
    let index = "/v2/repository/index".to_owned();
    let load = format!("/v2/repository/models/{DEPLOYMENT}/load");
    let trace = format!("/v2/models/{DEPLOYMENT}/trace/setting");
    let array = "invalid type: array, expected an object";
    let refusals: &[(&String, &str, &str)] = &[
        // An array of the fields in their order is no object.
        (&infer, r#"["id", null, [["x", [1, 2], "FP32", null, [1, 2]]], null]"#, array),
        (
            &infer,
            r#"{"inputs": [["x", [1, 2], "FP32", null, [1, 2]]]}"#,
            "`inputs[0]`: invalid type: array, expected an input: an object",
        ),
        (
            &infer,
            r#"{"inputs": [], "outputs": [{"name": "score"}, ["label", null]]}"#,
            "`outputs[1]`: invalid type: array",
        ),
        (
            &infer,
            r#"{"inputs": [], "parameters": [["timeout", 1]]}"#,
            "`parameters`: invalid type: array, expected an object",
        ),
        (&predict, "[[[1, 2]]]", "invalid type: array, expected an object with `instances`"),
        (&index, "[true]", array),
        (&load, "[null]", array),
        (&load, r#"{"parameters": []}"#, "`parameters`: invalid type: array"),
        (&"/v2/logging".to_owned(), "[]", array),
        (&"/v2/trace/setting".to_owned(), "[]", array),
        (&trace, "[]", array),
        (
            &labels,
            r#"[[{"request_id": "r", "label": 1}]]"#,
            "`body`: invalid type: array, expected an object at line 1",
        ),
        (&"/v1/deployments/%FF/labels".to_owned(), "{}", "`name`: Invalid URL: Invalid UTF-8"),
        (&labels, r#"{"labels": [["r", 1]]}"#, "`labels[0]`: invalid type: array, expected an object"),
        // What stands in an object's place is named with its path and its place.
        (
            &infer,
            "{\"inputs\": [{\"name\": \"x\",\n\"shape\": [1, \"2\"]}]}",
            "`inputs[0].shape[1]`: invalid type: string \"2\", expected a whole number at line 2 column 16",
        ),
        (
            &infer,
            r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": 32}]}"#,
            "`inputs[0].datatype`: invalid type: integer `32`, expected a string",
        ),
        (&infer, r#"{"inputs": [{"shape": [1, 2]}]}"#, "`inputs[0].name`: missing field"),
        (&infer, r#"{"inputs": {}}"#, "`inputs`: invalid type: object, expected an array"),
        (&infer, r#"{"inputs": [], "inputs": []}"#, "duplicate field `inputs`"),
        (
            &infer,
            r#"{"inputs": [{"name": "x", "shape": ["2"], "datatype": "FP32", "data": [NaN]}]}"#,
            "`inputs[0].shape[0]`",
        ),
        (&predict, r#"{"instances": 1}"#, "`instances`: invalid type: integer `1`, expected an array"),
        (&index, r#"{"ready": "yes"}"#, "`ready`: invalid type: string \"yes\", expected a boolean"),
        // Which element would be whose?
        (
            &infer,
            r#"{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2, 3], [4]]}]}"#,
            "input 'x': data is nested unevenly: at depth 2 one array has 3 elements, another 1",
        ),
        (
            &predict,
            r#"{"instances": [[1, [2]]]}"#,
            "input 'x': data is nested unevenly: at depth 2 stand arrays and values side by side",
        ),
        // No JSON at all.
        (&infer, "", "does not parse: EOF"),
        (&infer, "{\"inputs\": []} and more", "does not parse: trailing characters at line 1 column 16"),
        (&labels, "{\"labels\": []}]", "trailing characters"),
    ];
    for (path, body, expected) in refusals {
        let (status, answered) = post(&serving, path, body).await;
        let text = answered["error"].as_str().or(answered["detail"].as_str()).unwrap_or_default();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}: {answered}");
        assert!(text.contains(expected), "{path} {body}: {answered}");
    }
    assert_eq!(serving.infer(&point([1.0, 2.0])).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_short_however_long_the_request() {
    let (_world, _cache, serving) = one_model().await;
    let (long, deep) = ("ä".repeat(1_000_000), "[".repeat(1_000_000));
    let bodies = [
        json!({"inputs": [{"name": "x", "shape": [1, long]}]}).to_string(),
        json!({"inputs": [{"name": long, "shape": [1], "datatype": "FP32"}]}).to_string(),
        json!({"inputs": [{"name": "x", "shape": [1], "datatype": long}]}).to_string(),
        json!({"inputs": [{"name": "x", "shape": vec![-1; 100_000], "datatype": "FP32"}]}).to_string(),
        json!({"inputs": [], "parameters": {"binary_data_output": long}}).to_string(),
        json!({"inputs": [], "outputs": [{"name": long}, {"name": long}]}).to_string(),
        format!("{{\"parameters\": {{\"a\": {deep}"),
        format!("{{\"inputs\": {deep}"),
        deep,
    ];
    for body in bodies {
        let (status, answered) = post(&serving, &format!("/v2/models/{DEPLOYMENT}/infer"), &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answered}");
        let text = answered["error"].as_str().unwrap();
        assert!(!text.is_empty() && text.len() < 4_096, "{} bytes: {text}", text.len());
    }
    // Over gRPC the message is a header: a longer one would cost the client its answer.
    let mut client = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    let input = proto::model_infer_request::InferInputTensor {
        name: "x".into(),
        datatype: "ä".repeat(1_000_000),
        ..Default::default()
    };
    let request =
        proto::ModelInferRequest { model_name: DEPLOYMENT.into(), inputs: vec![input], ..Default::default() };
    let refused = client.model_infer(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    assert!(refused.message().starts_with("input 'x': unknown datatype 'ää"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_of_another_type_are_not_passed_over() {
    let (_world, _cache, serving) = one_model().await;
    let mut client = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    let request = |contents: proto::InferTensorContents| proto::ModelInferRequest {
        model_name: DEPLOYMENT.into(),
        inputs: vec![proto::model_infer_request::InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1, 2],
            contents: Some(contents),
            ..Default::default()
        }],
        ..Default::default()
    };
    let right = proto::InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() };
    client.model_infer(request(right.clone())).await.unwrap();
    let wrong = proto::InferTensorContents { fp64_contents: vec![1.0, 2.0], ..Default::default() };
    let both = proto::InferTensorContents { int_contents: vec![1, 2], ..right };
    for (contents, field) in [(wrong, "fp64_contents"), (both, "int_contents")] {
        let refused = client.model_infer(request(contents)).await.unwrap_err();
        let expected = format!("input 'x': FP32 goes into fp32_contents, and {field} has 2 elements");
        assert_eq!((refused.code(), refused.message()), (tonic::Code::InvalidArgument, expected.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_and_a_priority_are_whole_numbers_in_both_protocols() {
    let (_world, _cache, serving) = one_model().await;
    let mut client = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    let rest = |name: &str, value: Value| {
        let mut body = point([1.0, 2.0]);
        body["parameters"] = json!({ name: value });
        body
    };
    let rpc = |name: &str, choice: ParameterChoice| proto::ModelInferRequest {
        model_name: DEPLOYMENT.into(),
        inputs: vec![proto::model_infer_request::InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1, 2],
            ..Default::default()
        }],
        raw_input_contents: vec![vec![0; 8].into()],
        parameters: [(name.to_owned(), proto::InferParameter { parameter_choice: Some(choice) })].into(),
        ..Default::default()
    };
    for name in ["timeout", "priority"] {
        let expected = format!("the parameter '{name}' expects a whole number");
        for wrong in [json!("1"), json!(-1), json!(1.5), json!(true), json!([1]), json!(1e30)] {
            let (status, body) = serving.infer(&rest(name, wrong.clone())).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{name} {wrong}: {body}");
            assert!(body["error"].as_str().unwrap().starts_with(&expected), "{body}");
        }
        let wrong = [
            ParameterChoice::StringParam("1".into()),
            ParameterChoice::Int64Param(-1),
            ParameterChoice::DoubleParam(1.0),
            ParameterChoice::BoolParam(true),
        ];
        for wrong in wrong {
            let refused = client.model_infer(rpc(name, wrong.clone())).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{name} {wrong:?}: {refused}");
            assert!(refused.message().starts_with(&expected), "{refused}");
        }
    }
    for right in [json!(null), json!(0), json!(1), json!(2), json!(u64::MAX)] {
        assert_eq!(serving.infer(&rest("priority", right.clone())).await.0, StatusCode::OK, "{right}");
    }
    for right in [ParameterChoice::Int64Param(1), ParameterChoice::Uint64Param(u64::MAX)] {
        client.model_infer(rpc("priority", right)).await.unwrap();
    }
}
