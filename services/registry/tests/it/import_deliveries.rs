//! Imports whose bytes a client hands over.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use slipway_api::proto::registry::imports_client::ImportsClient;
use slipway_api::proto::registry::{Delivery, EnsureImportRequest, Import, IssueDeliveryRequest};
use slipway_grpc_client::{Token, TracedChannel, channel, channel_with_token};
use tonic::Code;

use crate::world::{ADMIN_TOKEN, MODEL, OTHER_MODEL, World};

const URI: &str = "pvc://ml/models/fraud";

fn request(uri: &str) -> EnsureImportRequest {
    EnsureImportRequest {
        model: "m".to_owned(),
        uri: uri.to_owned(),
        alias: "champion".to_owned(),
        watch: false,
        delivered: true,
    }
}

/// A client that delivers.
struct Deliverer<'world> {
    world: &'world World,
    import: String,
    token: String,
}

impl<'world> Deliverer<'world> {
    fn new(world: &'world World, import: &Import, issued: Delivery) -> Self {
        Self { world, import: import.id.clone(), token: issued.token }
    }

    async fn put(&self, path: &str, bytes: &[u8]) -> Response {
        let url = format!("{}/api/v1/imports/{}/files", self.world.url, self.import);
        let request = self.world.http.put(url).query(&[("path", path)]).bearer_auth(&self.token);
        let request = request.header("content-type", "application/octet-stream");
        request.body(bytes.to_vec()).send().await.unwrap()
    }

    async fn complete(&self, files: &[(&str, &[u8])]) -> (StatusCode, Value) {
        let files: Vec<Value> = files
            .iter()
            .map(|(path, bytes)| json!({"path": path, "sha256": hex::encode(Sha256::digest(bytes))}))
            .collect();
        let url = format!("{}/api/v1/imports/{}/complete", self.world.url, self.import);
        let request = self.world.http.post(url).bearer_auth(&self.token).json(&json!({"files": files}));
        let response = request.send().await.unwrap();
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }
}

async fn issue(imports: &mut ImportsClient<TracedChannel>, import: &Import) -> Delivery {
    let request = IssueDeliveryRequest { import_id: import.id.clone() };
    imports.issue_delivery(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn delivered_files_become_a_version_once_they_are_complete() {
    let world = World::importing_with("s3://nothing/", &["--import-max-bytes=100000"]).await;
    let mut imports = ImportsClient::new(channel(&world.url).unwrap());
    let import = imports.ensure(request(URI)).await.unwrap().into_inner();
    assert!(import.version.is_empty() && import.problem.is_empty(), "{import:?}");
    let delivering = Deliverer::new(&world, &import, issue(&mut imports, &import).await);

    let stored = delivering.put("1/model.onnx", OTHER_MODEL).await;
    assert_eq!(stored.status(), StatusCode::OK);
    let stored: Value = stored.json().await.unwrap();
    assert_eq!(stored["sha256"], hex::encode(Sha256::digest(OTHER_MODEL)), "{stored}");
    // A file that was cut off is delivered again.
    assert_eq!(delivering.put("1/model.onnx", MODEL).await.status(), StatusCode::OK);
    assert_eq!(delivering.put("../evil", MODEL).await.status(), StatusCode::BAD_REQUEST);
    let large = delivering.put("large", &vec![0; 100_001]).await;
    assert_eq!(large.status(), StatusCode::BAD_REQUEST);
    assert!(large.text().await.unwrap().contains("SLIPWAY_IMPORT_MAX_BYTES"));

    let other = delivering.complete(&[("1/model.onnx", OTHER_MODEL)]).await;
    assert_eq!(other.0, StatusCode::CONFLICT, "{other:?}");
    assert!(other.1["detail"].as_str().unwrap().contains("expected the SHA-256"), "{other:?}");
    assert_eq!(delivering.complete(&[]).await.0, StatusCode::BAD_REQUEST);
    let files: [(&str, &[u8]); 1] = [("1/model.onnx", MODEL)];
    assert_eq!(delivering.complete(&files).await.0, StatusCode::NO_CONTENT);
    assert_eq!(delivering.complete(&files).await.0, StatusCode::NO_CONTENT, "repeating it changes nothing");
    assert_eq!(delivering.put("2/model.onnx", MODEL).await.status(), StatusCode::CONFLICT);
    world.import_is("version 1", |import| import["version"] == "1").await;
    let version = world.get("/api/v1/models/m/versions/1").await;
    assert_eq!((&version["servable"], &version["tags"]["slipway.import_uri"]), (&json!(true), &json!(URI)));
    assert_eq!(version["files"][0]["path"], "model.onnx", "the newest version in the layout of Triton");
    world.champion_is("1").await;
    assert_eq!(imports.ensure(request(URI)).await.unwrap().into_inner().version, "1");
    let again = imports.issue_delivery(IssueDeliveryRequest { import_id: import.id }).await.unwrap_err();
    assert!(again.message().contains("waits for no delivery"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_one_import_and_a_new_one_replaces_it() {
    let world = World::begin().await;
    let mut imports = ImportsClient::new(channel(&world.url).unwrap());
    let import = imports.ensure(request(URI)).await.unwrap().into_inner();
    let other = EnsureImportRequest { model: "n".to_owned(), ..request("s3://models/fraud") };
    let other = imports.ensure(other).await.unwrap().into_inner();
    let first = Deliverer::new(&world, &import, issue(&mut imports, &import).await);
    assert_eq!(first.put("half.onnx", MODEL).await.status(), StatusCode::OK);
    let root = format!("imports/{}", import.id.replace('-', ""));
    let listed = async || {
        let listed = world.get(&format!("/api/2.0/mlflow-artifacts/artifacts?path={root}")).await;
        listed["files"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(listed().await, 1);

    let elsewhere = Deliverer {
        import: other.id.clone(),
        ..Deliverer { world: &world, import: String::new(), token: first.token.clone() }
    };
    assert_eq!(elsewhere.put("model.onnx", MODEL).await.status(), StatusCode::UNAUTHORIZED);
    let unknown = Deliverer { world: &world, import: import.id.clone(), token: "0".repeat(64) };
    assert_eq!(unknown.complete(&[("half.onnx", MODEL)]).await.0, StatusCode::UNAUTHORIZED);
    let second = Deliverer::new(&world, &import, issue(&mut imports, &import).await);
    assert_eq!(first.put("model.onnx", MODEL).await.status(), StatusCode::UNAUTHORIZED);
    let started = std::time::Instant::now();
    while listed().await > 0 {
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "the half delivery stays");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(second.put("model.onnx", MODEL).await.status(), StatusCode::OK);
    assert_eq!(second.complete(&[("model.onnx", MODEL)]).await.0, StatusCode::NO_CONTENT);
    world.import_is("version 1", |import| import["version"] == "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_is_checked_and_others_may_not_ask_for_it() {
    let world = World::begin().await;
    let mut imports = ImportsClient::new(channel(&world.url).unwrap());
    for (changed, text) in [
        (request("pvc://ml"), "expected pvc://NAMESPACE/CLAIM/PATH"),
        (EnsureImportRequest { watch: true, ..request(URI) }, "cannot be watched"),
        (EnsureImportRequest { delivered: false, ..request(URI) }, "expected s3://"),
    ] {
        let refused = imports.ensure(changed).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(text), "{refused}");
    }
    let (status, problem) = world.v1(Method::POST, "models/m/imports", json!({"uri": URI})).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("uri")), "{problem}");

    let guarded = World::guarded(&[]).await;
    let token = Token::new(&ADMIN_TOKEN.to_owned().into()).unwrap();
    let mut imports = ImportsClient::new(channel_with_token(&guarded.url, &token).unwrap());
    let refused = imports.ensure(request(URI)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}
