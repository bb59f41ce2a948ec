//! What a service says of itself: its gRPC methods, by reflection, and its REST operations, by its OpenAPI
//! document.

use std::collections::BTreeSet;

use prost::Message;
use reqwest::Client;
use serde_json::Value;
use slipway_http_server::health;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// The part of `google.protobuf.FileDescriptorProto` that names methods.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Clone, PartialEq, Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
}

/// Asks reflection; without a token it has to refuse.
async fn ask(
    channel: &Channel,
    token: Option<&str>,
    asked: MessageRequest,
) -> Result<MessageResponse, Status> {
    let message = ServerReflectionRequest { message_request: Some(asked), ..Default::default() };
    let mut request = Request::new(futures::stream::iter([message]));
    if let Some(token) = token {
        let bearer = AsciiMetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(request).await?.into_inner();
    let answer: ServerReflectionResponse = answers.message().await?.unwrap();
    Ok(answer.message_response.unwrap())
}

/// Every method of every gRPC service that is mounted at an address, as `/package.Service/Method`.
pub(super) async fn grpc_methods(channel: &Channel, token: &str) -> BTreeSet<String> {
    let list = || MessageRequest::ListServices(String::new());
    assert_eq!(ask(channel, None, list()).await.unwrap_err().code(), Code::Unauthenticated);
    let MessageResponse::ListServicesResponse(listed) = ask(channel, Some(token), list()).await.unwrap()
    else {
        unreachable!("services were asked for")
    };
    let mut methods = BTreeSet::new();
    for name in listed.service.into_iter().map(|service| service.name) {
        let symbol = MessageRequest::FileContainingSymbol(name.clone());
        let MessageResponse::FileDescriptorResponse(found) = ask(channel, Some(token), symbol).await.unwrap()
        else {
            panic!("reflection lists {name} and does not describe it")
        };
        let files = found.file_descriptor_proto.iter().map(|bytes| File::decode(bytes.as_slice()).unwrap());
        for File { package, services } in files {
            let named = |service: &Service| format!("{package}.{}", service.name) == name;
            for service in services.iter().filter(|service| named(service)) {
                methods.extend(service.methods.iter().map(|method| format!("/{name}/{}", method.name)));
            }
        }
    }
    methods
}

/// Every operation of the OpenAPI document at an address, as method and path.
pub(super) async fn rest_operations(http: &Client, base: &str, token: &str) -> BTreeSet<(String, String)> {
    let request = http.get(format!("{base}/openapi.json")).bearer_auth(token);
    let document: Value = request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
    let paths = document["paths"].as_object().unwrap();
    // Health and metrics are in front of access control.
    let guarded = paths.iter().filter(|(path, _)| !health::PATHS.contains(&path.as_str()));
    let operations = guarded.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    let is_method =
        |(method, _): &(String, String)| ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str());
    operations.filter(is_method).collect()
}
