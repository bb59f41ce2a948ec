//! gRPC beyond one prediction: every datatype, streams, settings, the repository, reflection.

use bytes::Bytes;
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::inference::infer_parameter::ParameterChoice;
use slipway_api::inference::log_settings_request::SettingValue as LogWanted;
use slipway_api::inference::log_settings_request::setting_value::ParameterChoice as LogParameter;
use slipway_api::inference::log_settings_response::setting_value::ParameterChoice as LogChoice;
use slipway_api::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use slipway_api::inference::{
    InferParameter, InferTensorContents, LogSettingsRequest, ModelConfigRequest, ModelInferRequest,
    ModelStatisticsRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest, ServerMetadataRequest,
    SystemSharedMemoryRegisterRequest, SystemSharedMemoryStatusRequest, TraceSettingRequest,
};
use tonic::Code;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::serving::{Serving, cache};
use crate::world::{DEPLOYMENT, World, fixture, table};

type Client = GrpcInferenceServiceClient<Channel>;

async fn client(serving: &Serving) -> Client {
    Client::connect(serving.grpc.clone()).await.expect("serving listens")
}

/// A replica that serves one fixture, and a client.
async fn serve(file: &str) -> (World, tempfile::TempDir, Serving, Client) {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", file).await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let client = client(&serving).await;
    (world, cache, serving, client)
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..Default::default()
    }
}

fn request(id: &str, inputs: Vec<(InferInputTensor, Bytes)>) -> ModelInferRequest {
    let (inputs, raw_input_contents) = inputs.into_iter().unzip();
    ModelInferRequest {
        model_name: DEPLOYMENT.into(),
        id: id.into(),
        inputs,
        raw_input_contents,
        ..Default::default()
    }
}

/// The typed contents of two elements of a kind, and their raw form; raw alone where there is no typed one.
fn elements(kind: &str) -> (Option<InferTensorContents>, Vec<u8>) {
    let none = InferTensorContents::default();
    let (contents, raw) = match kind {
        "BOOL" => (InferTensorContents { bool_contents: vec![true, false], ..none }, vec![1, 0]),
        "INT8" => (InferTensorContents { int_contents: vec![-128, 127], ..none }, vec![0x80, 0x7f]),
        "INT16" => (
            InferTensorContents { int_contents: vec![-32768, 5], ..none },
            [i16::MIN, 5].map(i16::to_le_bytes).concat(),
        ),
        "INT32" => (
            InferTensorContents { int_contents: vec![i32::MIN, 5], ..none },
            [i32::MIN, 5].map(i32::to_le_bytes).concat(),
        ),
        "INT64" => (
            InferTensorContents { int64_contents: vec![i64::MIN, 5], ..none },
            [i64::MIN, 5].map(i64::to_le_bytes).concat(),
        ),
        "UINT8" => (InferTensorContents { uint_contents: vec![0, 255], ..none }, vec![0, 255]),
        "UINT16" => (
            InferTensorContents { uint_contents: vec![0, 65535], ..none },
            [0, u16::MAX].map(u16::to_le_bytes).concat(),
        ),
        "UINT32" => (
            InferTensorContents { uint_contents: vec![0, u32::MAX], ..none },
            [0, u32::MAX].map(u32::to_le_bytes).concat(),
        ),
        "UINT64" => (
            InferTensorContents { uint64_contents: vec![0, u64::MAX], ..none },
            [0, u64::MAX].map(u64::to_le_bytes).concat(),
        ),
        "FP32" => (
            InferTensorContents { fp32_contents: vec![0.1, f32::INFINITY], ..none },
            [0.1, f32::INFINITY].map(f32::to_le_bytes).concat(),
        ),
        "FP64" => (
            InferTensorContents { fp64_contents: vec![0.1, f64::NEG_INFINITY], ..none },
            [0.1, f64::NEG_INFINITY].map(f64::to_le_bytes).concat(),
        ),
        "BYTES" => (
            InferTensorContents { bytes_contents: vec![Bytes::new(), Bytes::from_static(b"ab")], ..none },
            [&[0; 4][..], &2_u32.to_le_bytes(), b"ab"].concat(),
        ),
        // 1.0 and NaN.
        _ => return (None, vec![0x00, 0x3c, 0x00, 0x7e]),
    };
    (Some(contents), raw)
}

const KINDS: [&str; 13] = [
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64",
    "BYTES",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_datatype_goes_through_raw_and_typed() {
    let (_world, _cache, _serving, mut client) = serve("identities.onnx").await;
    let named = |kind: &&str| input(&format!("{}_in", kind.to_lowercase()), kind, &[2]);
    let raw = KINDS.iter().map(|kind| (named(kind), elements(kind).1.into())).collect();
    let answered = client.model_infer(request("", raw)).await.unwrap().into_inner();
    for (at, kind) in KINDS.iter().enumerate() {
        assert_eq!(answered.outputs[at].datatype, *kind);
        assert_eq!(answered.raw_output_contents[at], elements(kind).1, "{kind}");
    }

    // Half precision has no typed form, so the model of all types cannot be asked typed; its answer says what
    // would do.
    let typed: Vec<InferInputTensor> =
        KINDS.iter().map(|kind| InferInputTensor { contents: elements(kind).0, ..named(kind) }).collect();
    let refusal = client.model_infer(ModelInferRequest {
        model_name: DEPLOYMENT.into(),
        inputs: typed.clone(),
        ..Default::default()
    });
    let refused = refusal.await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "input 'fp16_in': FP16 has no typed contents; send it in raw_input_contents")
    );
    let too_wide = [
        ("int8_in", "INT8", InferTensorContents { int_contents: vec![0, 300], ..Default::default() }),
        ("int16_in", "INT16", InferTensorContents { int_contents: vec![0, -32769], ..Default::default() }),
        ("uint8_in", "UINT8", InferTensorContents { uint_contents: vec![256, 0], ..Default::default() }),
        ("uint16_in", "UINT16", InferTensorContents { uint_contents: vec![0, 65536], ..Default::default() }),
    ];
    for (name, datatype, contents) in too_wide {
        let wide = InferInputTensor { contents: Some(contents), ..input(name, datatype, &[2]) };
        let wide =
            ModelInferRequest { model_name: DEPLOYMENT.into(), inputs: vec![wide], ..Default::default() };
        let refused = client.model_infer(wide).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(&format!("does not fit {datatype}")), "{}", refused.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_contents_and_brain_floats_are_answered_raw() {
    let (world, _cache, _serving, mut client) = serve("brain_identity.onnx").await;
    let bytes = Bytes::from_static(&[0x80, 0x3f, 0xc0, 0x7f]);
    let asked = request("", vec![(input("bf16_in", "BF16", &[2]), bytes.clone())]);
    let answered = client.model_infer(asked).await.unwrap().into_inner();
    assert_eq!(answered.outputs[0].datatype, "BF16");
    assert_eq!(answered.raw_output_contents, [bytes]);

    world.put(&table(2, &world.version("2", "linear_minus_one.onnx").await)).await;
    world.routed(2).await;
    let contents = InferTensorContents { fp64_contents: vec![1.0, 1.0], ..Default::default() };
    let misplaced = InferInputTensor { contents: Some(contents), ..input("x", "FP32", &[1, 2]) };
    let misplaced =
        ModelInferRequest { model_name: DEPLOYMENT.into(), inputs: vec![misplaced], ..Default::default() };
    let refused = client.model_infer(misplaced).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "values in the field of another type are not zeros");
}

fn point(id: &str) -> ModelInferRequest {
    let values = [1.0_f32, 1.0].map(f32::to_le_bytes).concat();
    request(id, vec![(input("x", "FP32", &[1, 2]), values.into())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_is_answered_in_order_and_cancelled_ones_are_let_go() {
    let (_world, _cache, _serving, mut client) = serve("linear_minus_one.onnx").await;
    let requests: Vec<_> = (0..200)
        .map(|at| {
            let mut asked = point(&at.to_string());
            if at % 10 == 3 {
                asked.inputs[0].datatype = "FP31".into();
            }
            asked
        })
        .collect();
    let mut answers = client.model_stream_infer(futures::stream::iter(requests)).await.unwrap().into_inner();
    let mut seen = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        let response = answer.infer_response.unwrap();
        assert_eq!(response.id, seen.to_string());
        assert_eq!(answer.error_message.is_empty(), seen % 10 != 3, "{}", answer.error_message);
        assert!(response.parameters.contains_key("triton_final_response"));
        seen += 1;
    }
    assert_eq!(seen, 200);

    // More streams than a connection may have at the same time, each left after its first answer.
    for _ in 0..300 {
        let requests = futures::stream::iter((0..8).map(|at| point(&at.to_string())));
        let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().infer_response.unwrap().id, "0");
    }
    assert_eq!(client.model_infer(point("after")).await.unwrap().into_inner().id, "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_statistics_and_configuration_are_told() {
    let (_world, _cache, _serving, mut client) = serve("classes.onnx").await;
    let scores = [0.1_f32, 0.7, 0.2].map(f32::to_le_bytes).concat();
    let mut asked = request("", vec![(input("scores_in", "FP32", &[1, 3]), scores.into())]);
    let parameter = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(2)) };
    asked.outputs.push(InferRequestedOutputTensor {
        name: "scores".into(),
        parameters: [("classification".to_owned(), parameter)].into(),
    });
    let answered = client.model_infer(asked.clone()).await.unwrap().into_inner();
    assert_eq!((answered.outputs[0].datatype.as_str(), &answered.outputs[0].shape), ("BYTES", &vec![1, 2]));
    let entry = |text: &str| [&10_u32.to_le_bytes()[..], text.as_bytes()].concat();
    assert_eq!(answered.raw_output_contents[0], [entry("0.700000:1"), entry("0.200000:2")].concat());
    let parameter = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(-1)) };
    asked.outputs[0].parameters.insert("classification".to_owned(), parameter);
    assert_eq!(client.model_infer(asked).await.unwrap_err().code(), Code::InvalidArgument);

    let statistics =
        client.model_statistics(ModelStatisticsRequest::default()).await.unwrap().into_inner().model_stats;
    let batch = &statistics[0].batch_stats[0];
    let compute = batch.compute_infer.unwrap();
    assert_eq!((batch.batch_size, compute.count), (1, 1), "the refused request did not run");
    assert!(compute.ns > 0);
    let asked = ModelConfigRequest { name: DEPLOYMENT.into(), version: "1".into() };
    let config = client.model_config(asked).await.unwrap().into_inner().config.unwrap();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    assert_eq!(usize::try_from(config.instance_group[0].count), Ok(cores));
    assert_eq!((config.max_batch_size, config.input[0].dims.as_slice()), (8, [3].as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_have_the_names_that_a_version_of_the_registry_gives_them() {
    let (world, cache) = (World::start().await, cache());
    let (model, names) = (fixture("classes.onnx"), Bytes::from_static(b"cat\ndog\nhorse\n"));
    let settings = Bytes::from_static(br#"{"labels": {"scores": "animals.txt"}}"#);
    let files = [("model.onnx", &model), ("animals.txt", &names), ("slipway-serving.json", &settings)];
    let files = files.map(|(path, bytes)| (path, bytes, bytes));
    world.put(&table(1, &world.register(DEPLOYMENT, "1", &files).await)).await;
    let serving = Serving::ready(&world, &cache).await;
    let scores = [0.1_f32, 0.7, 0.2].map(f32::to_le_bytes).concat();
    let mut asked = request("", vec![(input("scores_in", "FP32", &[1, 3]), scores.into())]);
    let parameter = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(1)) };
    asked.outputs.push(InferRequestedOutputTensor {
        name: "scores".into(),
        parameters: [("classification".to_owned(), parameter)].into(),
    });
    let mut client = client(&serving).await;
    let answered = client.model_infer(asked).await.unwrap().into_inner();
    assert_eq!(answered.raw_output_contents[0], [&14_u32.to_le_bytes()[..], b"0.700000:1:dog"].concat());
    let asked = ModelConfigRequest { name: DEPLOYMENT.into(), ..Default::default() };
    let config = client.model_config(asked).await.unwrap().into_inner().config.unwrap();
    assert_eq!(config.output[0].label_filename, "animals.txt");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repository_and_the_settings_answer_as_over_rest() {
    let (_world, _cache, _serving, mut client) = serve("linear_minus_one.onnx").await;
    let load = |name: &str| RepositoryModelLoadRequest { model_name: name.into(), ..Default::default() };
    client.repository_model_load(load(DEPLOYMENT)).await.unwrap();
    assert_eq!(client.repository_model_load(load("other")).await.unwrap_err().code(), Code::NotFound);
    let unload = RepositoryModelUnloadRequest { model_name: DEPLOYMENT.into(), ..Default::default() };
    let refused = client.repository_model_unload(unload).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("rollout controller"), "{}", refused.message());

    let log = client.log_settings(LogSettingsRequest::default()).await.unwrap().into_inner().settings;
    assert_eq!(log["log_verbose_level"].parameter_choice, Some(LogChoice::Uint32Param(0)));
    assert_eq!(log["log_info"].parameter_choice, Some(LogChoice::BoolParam(true)));
    let verbose = |number| {
        let value = LogWanted { parameter_choice: Some(LogParameter::Uint32Param(number)) };
        LogSettingsRequest { settings: [("log_verbose_level".to_owned(), value)].into() }
    };
    for level in [1, 0] {
        let now = client.log_settings(verbose(level)).await.unwrap().into_inner().settings;
        assert_eq!(now["log_verbose_level"].parameter_choice, Some(LogChoice::Uint32Param(level)));
    }
    let trace = client.trace_setting(TraceSettingRequest::default()).await.unwrap().into_inner().settings;
    assert_eq!(trace["trace_level"].value, ["OFF"]);
    let regions =
        client.system_shared_memory_status(SystemSharedMemoryStatusRequest::default()).await.unwrap();
    assert!(regions.into_inner().regions.is_empty());
    let register = SystemSharedMemoryRegisterRequest { name: "r".into(), ..Default::default() };
    assert_eq!(client.system_shared_memory_register(register).await.unwrap_err().code(), Code::Unimplemented);
    let extensions = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner().extensions;
    assert!(extensions.contains(&"classification".to_owned()), "{extensions:?}");
    assert!(!extensions.iter().any(|name| name.contains("shared_memory")), "{extensions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_shows_the_services_and_their_messages() {
    let (_world, _cache, serving, _client) = serve("linear_minus_one.onnx").await;
    let channel = Channel::from_shared(serving.grpc.clone()).unwrap().connect().await.unwrap();
    let ask = async |asked: MessageRequest| -> MessageResponse {
        let asked = ServerReflectionRequest { message_request: Some(asked), ..Default::default() };
        let requests = futures::stream::iter([asked]);
        let mut client = ServerReflectionClient::new(channel.clone());
        let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
        let answer: ServerReflectionResponse = answers.message().await.unwrap().unwrap();
        answer.message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(services) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        unreachable!("services were asked for")
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["inference.GRPCInferenceService", "grpc.health.v1.Health"] {
        assert!(names.contains(&service), "{names:?}");
    }
    let symbol = MessageRequest::FileContainingSymbol("inference.ModelInferRequest".to_owned());
    assert!(matches!(ask(symbol).await, MessageResponse::FileDescriptorResponse(files)
            if !files.file_descriptor_proto.is_empty()));
    let old = tonic_reflection::pb::v1alpha::ServerReflectionRequest {
        message_request: Some(
            tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest::ListServices(
                String::new(),
            ),
        ),
        ..Default::default()
    };
    let mut client =
        tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(futures::stream::iter([old])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
}
