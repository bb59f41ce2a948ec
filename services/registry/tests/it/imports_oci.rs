//! Models from OCI registries.

use std::io::Write as _;
use std::process::Command;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use slipway_kubernetes_testkit::OciRegistry;

use crate::world::{MODEL, OTHER_MODEL, World};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const IMAGE: &str = "application/vnd.oci.image.config.v1+json";

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// A client that pushes to a repository.
struct Pusher<'test> {
    registry: &'test OciRegistry,
    repository: &'static str,
    user: Option<(&'static str, &'static str)>,
    http: reqwest::Client,
}

impl<'test> Pusher<'test> {
    fn new(registry: &'test OciRegistry, repository: &'static str) -> Self {
        slipway_runtime::install_tls_provider();
        Self { registry, repository, user: None, http: reqwest::Client::new() }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let request = match self.user {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        response
    }

    async fn blob(&self, bytes: &[u8]) {
        let url = format!("http://{}/v2/{}/blobs/uploads/", self.registry.host, self.repository);
        let begun = self.send(self.http.post(&url)).await;
        let to = begun.headers()[header::LOCATION].to_str().unwrap().to_owned();
        let to = begun.url().join(&to).unwrap();
        let put = self.http.put(to).query(&[("digest", digest(bytes))]).body(bytes.to_vec());
        self.send(put).await;
    }

    /// Stores a manifest or an index, by a tag or its digest; its descriptor.
    async fn manifest(&self, version: Option<&str>, media_type: &str, manifest: &Value) -> Value {
        let bytes = manifest.to_string().into_bytes();
        let version = version.map_or_else(|| digest(&bytes), str::to_owned);
        let url = format!("http://{}/v2/{}/manifests/{version}", self.registry.host, self.repository);
        let descriptor = descriptor(media_type, &bytes);
        self.send(self.http.put(url).header(header::CONTENT_TYPE, media_type).body(bytes)).await;
        descriptor
    }

    /// Stores an artifact with one file, as ORAS does.
    async fn artifact(&self, tag: &str, path: &str, bytes: &[u8]) {
        let config = b"{}";
        self.blob(config).await;
        self.blob(bytes).await;
        let mut layer = descriptor("application/octet-stream", bytes);
        layer["annotations"] = json!({"org.opencontainers.image.title": path});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.empty.v1+json", config), "layers": [layer]});
        self.manifest(Some(tag), MANIFEST, &manifest).await;
    }

    /// Stores an image with these layers; the descriptor of its manifest.
    async fn image(&self, layers: &[Vec<u8>]) -> Value {
        let config = br#"{"architecture":"amd64","os":"linux"}"#;
        self.blob(config).await;
        for layer in layers {
            self.blob(layer).await;
        }
        let layers: Vec<Value> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(IMAGE, config),
            "layers": layers});
        self.manifest(None, MANIFEST, &manifest).await
    }
}

/// A layer with these files, compressed.
fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let tar = Command::new("tar").args(["-c", "."]).current_dir(folder.path()).output().unwrap();
    assert!(tar.status.success());
    let mut compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    compressed.write_all(&tar.stdout).unwrap();
    compressed.finish().unwrap()
}

async fn files(world: &World, version: u32) -> Vec<String> {
    let version = world.get(&format!("/api/v1/models/m/versions/{version}")).await;
    let files = version["files"].as_array().unwrap().iter();
    files.map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

/// Waits until an import cannot go on, for a reason with this text.
async fn refused(world: &World, uri: &str, text: &str) {
    let is = |import: &Value| {
        import["uri"] == uri && import["problem"].as_str().is_some_and(|problem| problem.contains(text))
    };
    let import = world.import_is(text, is).await;
    assert_eq!(import["version"], Value::Null, "{import}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_an_artifact_becomes_a_version_and_what_it_names_next_another_one() {
    let Some(registry) = OciRegistry::own(false) else { return };
    let place = format!("oci://{}/org/fraud", registry.host);
    let world = World::importing(&place).await;
    let pusher = Pusher::new(&registry, "org/fraud");
    pusher.artifact("v1", "model.onnx", MODEL).await;
    let uri = format!("{place}:v1");
    world.import(json!({"uri": uri, "alias": "champion", "watch": true})).await;
    world.import_is("version 1", |import| import["version"] == "1").await;
    let version = world.get("/api/v1/models/m/versions/1").await;
    assert_eq!((&version["servable"], &version["tags"]["slipway.import_uri"]), (&json!(true), &json!(uri)));
    assert_eq!(files(&world, 1).await, ["model.onnx"]);

    pusher.artifact("v1", "model.onnx", OTHER_MODEL).await;
    world.import_is("version 2", |import| import["version"] == "2").await;
    world.champion_is("2").await;

    let absent = format!("{place}:v9");
    world.import(json!({ "uri": absent })).await;
    refused(&world, &absent, "has no v9 of org/fraud").await;
    let elsewhere = json!({"uri": format!("oci://{}/org/other:v1", registry.host)});
    let (status, problem) = world.v1(reqwest::Method::POST, "models/m/imports", elsewhere).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("uri")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_models_of_an_image_becomes_a_version() {
    let Some(registry) = OciRegistry::own(false) else { return };
    let place = format!("oci://{}/car", registry.host);
    let world = World::importing(&place).await;
    let pusher = Pusher::new(&registry, "car");
    let layers = [
        layer(&[("bin/sh", b"#!"), ("models/1/model.onnx", OTHER_MODEL), ("models/9/model.onnx", b"old")]),
        layer(&[("models/2/model.onnx", MODEL), ("models/2/labels.txt", b"a"), ("models/.wh.9", b"")]),
    ];
    let mut amd = pusher.image(&layers).await;
    amd["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut arm = pusher.image(&layers[..1]).await;
    arm["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [arm, amd]});
    let index = pusher.manifest(Some("both"), INDEX, &index).await;
    let uri = format!("{place}@{}", index["digest"].as_str().unwrap());
    world.import(json!({ "uri": uri })).await;
    world.import_is("version 1", |import| import["version"] == "1").await;
    // The newest version in the layout of Triton, of what the last layer has left.
    assert_eq!(files(&world, 1).await, ["labels.txt", "model.onnx"]);

    let plain = pusher.image(&[layer(&[("bin/sh", b"#!")])]).await;
    let uri = format!("{place}@{}", plain["digest"].as_str().unwrap());
    world.import(json!({ "uri": uri })).await;
    refused(&world, &uri, "the image has no files in /models").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_those_of_the_file_and_count_without_a_restart() {
    let Some(registry) = OciRegistry::own(true) else { return };
    let mut pusher = Pusher::new(&registry, "private");
    pusher.user = Some((OciRegistry::USER, OciRegistry::PASSWORD));
    pusher.artifact("v1", "model.onnx", MODEL).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, r#"{"auths": {}}"#).unwrap();
    let place = format!("oci://{}/private", registry.host);
    let file = format!("--import-registry-auth-file={}", path.display());
    let world = World::importing_with(&place, &[&file]).await;
    let uri = format!("{place}:v1");
    world.import(json!({ "uri": uri })).await;
    refused(&world, &uri, "refuses anonymous access to private").await;
    let both = BASE64_STANDARD.encode(format!("{}:{}", OciRegistry::USER, OciRegistry::PASSWORD));
    let auths = json!({"auths": {registry.host.as_str(): {"auth": both}}});
    std::fs::write(&path, auths.to_string()).unwrap();
    world.import_is("version 1", |import| import["version"] == "1").await;
}

/// A registry that asks for a token, and answers for a blob with other bytes.
async fn with_tokens(model: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let realm = format!("Bearer realm=\"http://{host}/token\",service=\"test\"");
    let ask = move |headers: HeaderMap, body: Response| {
        let sent = headers.get(header::AUTHORIZATION).and_then(|sent| sent.to_str().ok());
        match sent {
            Some("Bearer the-token") => body,
            _ => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, realm.clone())]).into_response(),
        }
    };
    let manifest = async |Path(version): Path<String>, headers: HeaderMap, State(state): State<Answering>| {
        let mut layer = descriptor("application/octet-stream", MODEL);
        layer["annotations"] = json!({"org.opencontainers.image.title": "model.onnx"});
        let body = json!({"schemaVersion": 2, "layers": [layer], "annotations": {"version": version}});
        (state.ask)(headers, body.to_string().into_response())
    };
    let blob = async |headers: HeaderMap, State(state): State<Answering>| {
        (state.ask)(headers, state.model.into_response())
    };
    let token = async |uri: axum::http::Uri| {
        assert_eq!(uri.query(), Some("service=test&scope=repository%3Am%3Apull"));
        axum::Json(json!({"token": "the-token", "expires_in": 300}))
    };
    let routes = axum::Router::new()
        .route("/v2/m/manifests/{version}", get(manifest))
        .route("/v2/m/blobs/{digest}", get(blob))
        .route("/token", get(token))
        .with_state(Answering { ask: std::sync::Arc::new(ask), model });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    host
}

#[derive(Clone)]
struct Answering {
    ask: std::sync::Arc<dyn Fn(HeaderMap, Response) -> Response + Send + Sync>,
    model: &'static [u8],
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_where_the_registry_asks_for_one_and_digests_are_checked() {
    let right = with_tokens(MODEL).await;
    let wrong = with_tokens(OTHER_MODEL).await;
    let world = World::importing(&format!("oci://{right}/,oci://{wrong}/")).await;
    let uri = format!("oci://{wrong}/m:v1");
    world.import(json!({ "uri": uri })).await;
    refused(&world, &uri, "sha256:").await;
    assert_eq!(world.versions_of_m().await, 0);
    world.import(json!({"uri": format!("oci://{right}/m:v1")})).await;
    world.import_is("version 1", |import| import["version"] == "1").await;
}
