//! Serving as the one that delivers the bytes of an import.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{post, put};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::serving::PROGRAM;

/// What a registry has received.
#[derive(Default)]
struct Received {
    files: BTreeMap<String, Bytes>,
    completed: Option<Value>,
    /// Requests that fail, and with which status.
    failures: Vec<StatusCode>,
}

type Shared = Arc<Mutex<Received>>;

/// A registry that takes deliveries.
async fn registry(received: &Shared) -> String {
    let store = async |State(received): State<Shared>,
                       Path(import): Path<String>,
                       Query(query): Query<BTreeMap<String, String>>,
                       headers: HeaderMap,
                       body: Bytes|
           -> Response {
        assert_eq!(
            (import.as_str(), headers["authorization"].as_bytes()),
            ("the-import", &b"Bearer the-token"[..])
        );
        let mut received = received.lock().expect("no test has failed");
        if let Some(status) = received.failures.pop() {
            return (status, Json(json!({"detail": "not this time"}))).into_response();
        }
        let (path, sha256) = (query["path"].clone(), hex::encode(Sha256::digest(&body)));
        let answer = json!({"path": path, "size_bytes": body.len(), "sha256": sha256});
        received.files.insert(path, body);
        Json(answer).into_response()
    };
    let complete = async |State(received): State<Shared>, Json(listed): Json<Value>| {
        received.lock().expect("no test has failed").completed = Some(listed);
        StatusCode::NO_CONTENT
    };
    let routes = axum::Router::new()
        .route("/api/v1/imports/{id}/files", put(store))
        .route("/api/v1/imports/{id}/complete", post(complete))
        .with_state(Arc::clone(received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it listens"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// Delivers `source` of a folder that also has the token; the message of the failure is left in `message`.
async fn deliver(url: &str, folder: &std::path::Path, source: &str) -> Output {
    let token = folder.join("token");
    std::fs::write(&token, "the-token\n").expect("the token is written");
    let mut command = Command::new(PROGRAM);
    command
        .env("SLIPWAY_ONNXRUNTIME_LIB", "/absent.so")
        .env("SLIPWAY_REGISTRY_URL", url)
        .env("SLIPWAY_SERVING_DELIVER_IMPORT", "the-import")
        .env("SLIPWAY_SERVING_DELIVER_SOURCE", folder.join(source))
        .env("SLIPWAY_SERVING_DELIVER_TOKEN_FILE", token)
        .env("SLIPWAY_SERVING_DELIVER_MESSAGE_FILE", folder.join("message"));
    tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_folder_are_delivered_and_what_may_pass_is_tried_again() {
    let received = Shared::default();
    received.lock().unwrap().failures = vec![StatusCode::SERVICE_UNAVAILABLE];
    let url = registry(&received).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("m/1")).unwrap();
    std::fs::write(folder.path().join("m/1/model.onnx"), vec![7; 300_000]).unwrap();
    std::fs::write(folder.path().join("m/a file"), b"").unwrap();
    let output = deliver(&url, folder.path(), "m").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let received = received.lock().unwrap();
    assert_eq!(received.files["1/model.onnx"], vec![7; 300_000]);
    assert_eq!(received.files["a file"], "");
    let listed = received.completed.as_ref().unwrap()["files"].as_array().unwrap();
    let paths: Vec<&str> = listed.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["1/model.onnx", "a file"]);
    assert_eq!(listed[0]["sha256"], hex::encode(Sha256::digest(vec![7; 300_000])));
    assert!(!folder.path().join("message").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_written_to_the_message_and_a_complete_delivery_is_none() {
    let received = Shared::default();
    let url = registry(&received).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("m")).unwrap();
    std::fs::write(folder.path().join("m/model.onnx"), b"onnx").unwrap();
    let message = || std::fs::read_to_string(folder.path().join("message")).unwrap();
    for (source, failure, text) in [
        ("absent", None, "absent: No such file or directory"),
        ("m", Some(StatusCode::UNAUTHORIZED), "`model.onnx`: the registry answers with HTTP status 401"),
        ("m", Some(StatusCode::BAD_REQUEST), "400 Bad Request: not this time"),
    ] {
        received.lock().unwrap().failures.extend(failure);
        let output = deliver(&url, folder.path(), source).await;
        assert!(!output.status.success(), "{source}");
        assert!(message().contains(text), "{}", message());
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(!log.contains("the-token"), "{log}");
    }
    // A pod before this one has completed it.
    received.lock().unwrap().failures.push(StatusCode::CONFLICT);
    assert!(deliver(&url, folder.path(), "m").await.status.success());
    assert!(received.lock().unwrap().completed.is_none());
}
