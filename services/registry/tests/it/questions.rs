//! What other services ask over gRPC.

use serde_json::json;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::registry::{GetModelVersionRequest, GetTrainingProfileRequest, ResolveAliasRequest};
use tonic::Code;

use crate::world::{MODEL, World};

#[tokio::test(flavor = "multi_thread")]
async fn other_services_get_their_answers() {
    let world = World::begin().await;
    let id = world.onnx_model(MODEL).await;
    world.version("m", &id).await;
    let mut client = RegistryClient::connect(world.url.clone()).await.unwrap();
    let ask = |version: &str| GetModelVersionRequest {
        model: "m".into(),
        version: version.into(),
        ..GetModelVersionRequest::default()
    };
    let version = client.get_model_version(ask("1")).await.unwrap().into_inner();
    assert!(version.servable, "{}", version.unservable_reason);
    assert_eq!(version.onnx_path, "model.onnx");
    let onnx = version.files.iter().find(|file| file.path == "model.onnx").unwrap();
    assert_eq!(onnx.size_bytes, MODEL.len() as u64);
    assert_eq!(client.get_model_version(ask("9")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.get_model_version(ask("x")).await.unwrap_err().code(), Code::InvalidArgument);

    let alias =
        ResolveAliasRequest { model: "m".into(), alias: "champion".into(), ..ResolveAliasRequest::default() };
    assert_eq!(client.resolve_alias(alias.clone()).await.unwrap_err().code(), Code::NotFound);
    world.post("registered-models/alias", json!({"name": "m", "alias": "champion", "version": "1"})).await;
    assert_eq!(client.resolve_alias(alias).await.unwrap().into_inner().digest, version.digest);

    let profile = GetTrainingProfileRequest { model: "m".into(), version: "1".into() };
    let missing = client.get_training_profile(profile.clone()).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains("slipway/profile.json"), "{missing}");
    let path = format!("0/{}/artifacts/slipway/profile.json", version.run_id);
    world.put_file(&path, b"{\"schema\": \"slipway.profile/1\"}").await;
    let found = client.get_training_profile(profile).await.unwrap().into_inner();
    assert_eq!(found.profile_json, b"{\"schema\": \"slipway.profile/1\"}");
}
