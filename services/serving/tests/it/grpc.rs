//! Open Inference Protocol v2 over gRPC.

use std::time::{Duration, Instant};

use bytes::Bytes;
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::inference::infer_parameter::ParameterChoice;
use slipway_api::inference::model_infer_request::InferInputTensor;
use slipway_api::inference::{
    InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
    ModelStatisticsRequest, ModelStreamInferResponse, RepositoryIndexRequest, ServerMetadataRequest,
    ServerReadyRequest,
};
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::serving::{Serving, cache};
use crate::world::{DEPLOYMENT, World, eventually, table};

async fn client(serving: &Serving) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.expect("serving listens")
}

fn floats(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A request for one point.
pub(crate) fn floats_request() -> ModelInferRequest {
    raw("", &[0.0, 0.0])
}

fn raw(id: &str, values: &[f32]) -> ModelInferRequest {
    let rows = i64::try_from(values.len() / 2).expect("a few rows");
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![rows, 2],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: DEPLOYMENT.into(),
        id: id.into(),
        inputs: vec![input],
        raw_input_contents: vec![floats(values)],
        ..Default::default()
    }
}

fn typed(values: &[f32]) -> ModelInferRequest {
    let mut request = raw("", values);
    request.raw_input_contents.clear();
    request.inputs[0].contents =
        Some(InferTensorContents { fp32_contents: values.to_vec(), ..Default::default() });
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_and_typed_inputs_are_answered_raw() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let mut client = client(&serving).await;
    let answered = client.model_infer(raw("r-1", &[1.0, 1.0, 0.0, 0.25])).await.unwrap();
    assert_eq!(answered.metadata().get("x-request-id").unwrap(), "r-1");
    let answered = answered.into_inner();
    assert_eq!(
        (answered.model_name.as_str(), answered.model_version.as_str(), answered.id.as_str()),
        (DEPLOYMENT, "1", "r-1")
    );
    assert_eq!((answered.outputs[0].name.as_str(), &answered.outputs[0].shape), ("score", &vec![2, 1]));
    assert_eq!(answered.raw_output_contents[0], floats(&[2.0, -0.5]));
    assert_eq!(answered.raw_output_contents[1], [1_i64, 0].map(i64::to_le_bytes).concat());
    let answered = client.model_infer(typed(&[1.0, 1.0])).await.unwrap().into_inner();
    assert_eq!(answered.raw_output_contents[0], floats(&[2.0]));

    let mut packed =
        client.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
    let answered = packed.model_infer(raw("", &[1.0; 20_000])).await.unwrap();
    assert_eq!(answered.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(answered.into_inner().raw_output_contents[0], floats(&[2.0; 10_000]));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_codes_and_do_not_end_a_stream() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let mut client = client(&serving).await;
    let unknown = client
        .model_infer(ModelInferRequest { model_name: "other".into(), ..raw("", &[0.0; 2]) })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let mut wrong = raw("bad", &[0.0; 2]);
    wrong.inputs[0].name = "y".into();
    let refused = client.model_infer(wrong.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "unknown input 'y'; the model takes 'x'")
    );
    let mut short = raw("", &[0.0; 2]);
    short.inputs[0].shape = vec![3, 2];
    let refused = client.model_infer(short).await.unwrap_err();
    assert!(
        refused.message().contains("input 'x' has shape [3, 2], which holds 24 bytes"),
        "{}",
        refused.message()
    );

    let requests = vec![raw("a", &[1.0, 1.0]), wrong, raw("c", &[0.0, 0.0])];
    let mut answers = client.model_stream_infer(futures::stream::iter(requests)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let response = answer.infer_response.unwrap();
        if answer.error_message.is_empty() {
            let last = response.parameters["triton_final_response"].parameter_choice.clone();
            assert_eq!(last, Some(ParameterChoice::BoolParam(true)));
        }
        seen.push((response.id, answer.error_message.is_empty()));
    }
    assert_eq!(seen, [("a".to_owned(), true), ("bad".to_owned(), false), ("c".to_owned(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_learns_what_is_served() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let mut client = client(&serving).await;
    client.model_infer(raw("", &[0.0; 6])).await.unwrap();
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    assert_eq!(client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner().name, "slipway");
    let ready = async |name: &str, version: &str| {
        let request = ModelReadyRequest { name: name.into(), version: version.into() };
        client.clone().model_ready(request).await.unwrap().into_inner().ready
    };
    assert_eq!(
        (ready(DEPLOYMENT, "").await, ready(DEPLOYMENT, "7").await, ready("other", "").await),
        (true, false, false)
    );
    let request = ModelMetadataRequest { name: DEPLOYMENT.into(), version: "1".into() };
    let metadata = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!((metadata.inputs[0].datatype.as_str(), &metadata.inputs[0].shape), ("FP32", &vec![-1, 2]));
    let request = ModelConfigRequest { name: DEPLOYMENT.into(), ..Default::default() };
    assert_eq!(
        client.model_config(request).await.unwrap().into_inner().config.unwrap().backend,
        "onnxruntime"
    );
    let request = ModelStatisticsRequest { name: DEPLOYMENT.into(), ..Default::default() };
    let statistics = client.model_statistics(request).await.unwrap().into_inner();
    assert_eq!(
        (statistics.model_stats[0].inference_count, statistics.model_stats[0].execution_count),
        (3, 1)
    );
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    assert_eq!(index.models[0].state, "READY");

    let channel = Channel::from_shared(serving.grpc.clone()).unwrap().connect().await.unwrap();
    for service in ["", "inference.GRPCInferenceService"] {
        let serving = async || {
            let request = HealthCheckRequest { service: service.into() };
            let answer = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
            (answer.status() == ServingStatus::Serving).then_some(())
        };
        eventually("the health service says so", serving).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_in_which_nothing_is_outstanding_do_not_hold_up_the_end() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let mut serving = Serving::ready(&world, &cache).await;
    let channel = Channel::from_shared(serving.grpc.clone()).unwrap().connect().await.unwrap();
    let watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await;
    let mut watch = watch.unwrap().into_inner();
    let (requests, sent) = tokio::sync::mpsc::channel(4);
    let sent = tokio_stream::wrappers::ReceiverStream::new(sent);
    let mut client = client(&serving).await;
    requests.send(raw("before", &[1.0, 1.0])).await.unwrap();
    let mut answers = client.model_stream_infer(sent).await.unwrap().into_inner();
    let id = |answer: Option<ModelStreamInferResponse>| answer.unwrap().infer_response.unwrap().id;
    assert_eq!(id(answers.message().await.unwrap()), "before");
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}

    serving.ask_to_end();
    let asked = Instant::now();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // Clients have a while to notice; what they send until then is answered.
    requests.send(raw("after", &[1.0, 1.0])).await.unwrap();
    assert_eq!(id(answers.message().await.unwrap()), "after");
    for ended in [answers.message().await.map(drop), watch.message().await.map(drop)] {
        let ended = ended.unwrap_err();
        assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "the server is stopping"));
    }
    drop((answers, watch, client));
    assert_eq!(serving.wait(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
}
