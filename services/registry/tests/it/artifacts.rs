//! Artifacts come back byte for byte; what was interrupted is not there.

use std::io::{Read as _, Write as _};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Digest as _;
use slipway_api::proto::registry::GetTrainingProfileRequest;
use slipway_api::proto::registry::registry_client::RegistryClient;

use crate::world::{MODEL, World};

#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_back_as_they_were() {
    let world = World::begin().await;
    // More than one part of a multipart upload.
    let large: Vec<u8> = (0..20_000_000u32).map(|number| (number % 251) as u8).collect();
    for (path, bytes) in [
        ("1/r/artifacts/large.bin", &large[..]),
        ("1/r/artifacts/a%20b%2B%25.txt", b"x"),
        ("1/r/artifacts/empty", b""),
    ] {
        assert_eq!(world.put_file(path, bytes).await.0, StatusCode::OK, "{path}");
        let response = world.file(path).await;
        assert_eq!(response.headers()["content-length"], bytes.len().to_string());
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert!(response.bytes().await.unwrap() == bytes, "{path}");
    }
    let listed = world.get("/api/2.0/mlflow-artifacts/artifacts?path=1/r/artifacts").await;
    let names: Vec<&str> =
        listed["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["a b+%.txt", "empty", "large.bin"]);
    assert_eq!(world.file("1/r/artifacts/missing").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(world.get("/api/2.0/mlflow-artifacts/artifacts?path=1/none").await, json!({}));
    // A client's own library resolves dots, so the wire itself is needed for those.
    for path in ["/1/r/x", "1/r/a%5Cb", "1/r/a%00b"] {
        let (status, text) = world.put_file(path, b"x").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {text}");
    }
    let answer = wire(&world, "PUT /api/2.0/mlflow-artifacts/artifacts/1/r/%2E%2E/x HTTP/1.1", b"x").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_upload_leaves_nothing() {
    let world = World::begin().await;
    let request =
        "PUT /api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/cut.bin HTTP/1.1\r\ncontent-length: 1000000";
    wire(&world, request, &[7; 100_000]).await;
    assert_eq!(world.file("1/r/artifacts/cut.bin").await.status(), StatusCode::NOT_FOUND);
    // An older file of that name outlives an upload that was interrupted, too; and the next one goes well.
    assert_eq!(world.put_file("1/r/artifacts/cut.bin", b"whole").await.0, StatusCode::OK);
    assert_eq!(world.file("1/r/artifacts/cut.bin").await.text().await.unwrap(), "whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_version_never_change() {
    let world = World::begin().await;
    let id = world.onnx_model(MODEL).await;
    let (status, answer) = world.version("m", &id).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let path = format!("0/models/{id}/artifacts/model.onnx");
    let (status, text) = world.put_file(&path, b"something else").await;
    assert_eq!(status, StatusCode::CONFLICT, "{text}");
    assert!(text.contains("m/1"), "{text}");
    let (status, text) = world.put_file(&format!("0/models/{id}/artifacts/new.txt"), b"more").await;
    assert_eq!(status, StatusCode::CONFLICT, "{text}");
    let url = format!("/api/2.0/mlflow-artifacts/artifacts/{path}");
    assert_eq!(world.raw(Method::DELETE, &url, "").await.status(), StatusCode::CONFLICT);
    // The same bytes again are a client that did not get the answer.
    assert_eq!(world.put_file(&path, MODEL).await.0, StatusCode::OK);
    assert!(world.file(&path).await.bytes().await.unwrap() == MODEL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_it_broke_off() {
    let world = World::begin().await;
    assert_eq!(world.put_file("1/r/artifacts/a.bin", b"0123456789").await.0, StatusCode::OK);
    let etag = world.file("1/r/artifacts/a.bin").await.headers()["etag"].clone();
    let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/a.bin", world.url);
    let part =
        world.http.get(&url).header("range", "bytes=4-").header("if-range", &etag).send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 4-9/10");
    assert_eq!(part.text().await.unwrap(), "456789");
    // Of a file that is another one by now, the beginning is of no use.
    assert_eq!(world.put_file("1/r/artifacts/a.bin", b"abcdefghij").await.0, StatusCode::OK);
    let whole =
        world.http.get(&url).header("range", "bytes=4-").header("if-range", &etag).send().await.unwrap();
    assert_eq!((whole.status(), whole.text().await.unwrap()), (StatusCode::OK, "abcdefghij".to_owned()));
    let outside = world.http.get(&url).header("range", "bytes=10-").send().await.unwrap();
    assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(outside.headers()["content-range"], "bytes */10");
}

async fn parts_call(world: &World, what: &str, body: Value) -> (StatusCode, Value) {
    let path = format!("/api/2.0/mlflow-artifacts/mpu/{what}/1/r/artifacts/sub");
    let response = world.raw(Method::POST, &path, body.to_string()).await;
    let status = response.status();
    (status, response.json().await.unwrap_or_default())
}

/// Sends the parts to the artifact store; what a client says of them to complete the upload.
async fn send_parts(world: &World, begun: &Value, bytes: &[u8], part_bytes: usize) -> Vec<Value> {
    let mut parts = Vec::new();
    for (part, credential) in bytes.chunks(part_bytes).zip(begun["credentials"].as_array().unwrap()) {
        let url = credential["url"].as_str().unwrap();
        let answer = world.http.put(url).body(part.to_vec()).send().await.unwrap();
        let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        parts.push(json!({"part_number": credential["part_number"], "etag": etag, "url": url}));
    }
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_to_the_artifact_store_in_parts() {
    let world = World::begin().await;
    let bytes: Vec<u8> = (0..11_000_000u32).map(|number| (number % 241) as u8).collect();
    let asked = json!({"path": "/home/me/model.bin", "num_parts": 2});
    let (status, begun) = parts_call(&world, "create", asked).await;
    assert_eq!(status, StatusCode::OK, "{begun}");
    let parts = send_parts(&world, &begun, &bytes, 6_000_000).await;
    assert_eq!(world.file("1/r/artifacts/sub/model.bin").await.status(), StatusCode::NOT_FOUND);
    let complete =
        |parts: &[Value]| json!({"path": "model.bin", "upload_id": begun["upload_id"], "parts": parts});

    let wrong = json!([{"part_number": 1, "etag": "\"0000\""}]);
    let (status, refused) = parts_call(&world, "complete", complete(wrong.as_array().unwrap())).await;
    assert_eq!(
        (status, refused["error_code"].as_str()),
        (StatusCode::BAD_REQUEST, Some("INVALID_PARAMETER_VALUE"))
    );
    let other = json!({"path": "other.bin", "upload_id": begun["upload_id"], "parts": parts});
    assert_eq!(parts_call(&world, "complete", other).await.0, StatusCode::NOT_FOUND);

    // The second time, for a client that did not get the first answer.
    for _ in 0..2 {
        let (status, answer) = parts_call(&world, "complete", complete(&parts)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    let whole = world.file("1/r/artifacts/sub/model.bin").await;
    let digest = format!("\"{}\"", hex::encode(sha2::Sha256::digest(&bytes)));
    assert_eq!(whole.headers()["etag"].to_str().unwrap(), digest);
    assert!(whole.bytes().await.unwrap() == bytes);
    let presigned = world.get("/api/2.0/mlflow-artifacts/presigned/1/r/artifacts/sub/model.bin").await;
    assert_eq!(presigned["file_size"], bytes.len());
    let direct = world.http.get(presigned["url"].as_str().unwrap()).header("range", "bytes=5999999-6000000");
    assert!(direct.send().await.unwrap().bytes().await.unwrap() == bytes[5_999_999..=6_000_000]);
    assert_eq!(world.events("slipway.registry.artifact", 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_that_is_aborted_is_gone() {
    let world = World::begin().await;
    for parts in [0, 10_001] {
        let (status, _) = parts_call(&world, "create", json!({"path": "a.bin", "num_parts": parts})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{parts} parts");
    }
    let (_, begun) = parts_call(&world, "create", json!({"path": "a.bin", "num_parts": 1})).await;
    let parts = send_parts(&world, &begun, b"content", 100).await;
    let named = json!({"path": "a.bin", "upload_id": begun["upload_id"], "parts": parts});
    assert_eq!(parts_call(&world, "abort", named.clone()).await.0, StatusCode::OK);
    assert_eq!(parts_call(&world, "complete", named).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.file("1/r/artifacts/sub/a.bin").await.status(), StatusCode::NOT_FOUND);
    let late =
        world.http.put(begun["credentials"][0]["url"].as_str().unwrap()).body("late").send().await.unwrap();
    assert_eq!(late.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_a_runs_files_are_handed_out() {
    let world = World::begin().await;
    let run = world.run().await;
    let asked = json!({"run_id": run, "path": "plots/a b.txt"});
    let upload = world.post("artifacts/presigned-upload-url", asked.clone()).await;
    let url = upload["presigned_url"].as_str().unwrap();
    assert!(world.http.put(url).body("drawn").send().await.unwrap().status().is_success());
    let download = world.post("artifacts/presigned-download-url", asked).await;
    assert_eq!(download["file_size"], 5);
    let text = world.http.get(download["presigned_url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(text.text().await.unwrap(), "drawn");
    let long = json!({"run_id": run, "path": "plots/a b.txt", "expiration": 604_801});
    let path = "artifacts/presigned-download-url";
    world.refused(Method::POST, path, long, "INVALID_PARAMETER_VALUE", "expiration").await;
    let missing = json!({"run_id": run, "path": "none.txt"});
    world.refused(Method::POST, path, missing, "RESOURCE_DOES_NOT_EXIST", "none.txt").await;
}

/// Sends bytes as they are; what came back.
async fn wire(world: &World, head: &str, body: &[u8]) -> String {
    let address = world.url.strip_prefix("http://").unwrap().to_owned();
    // A length of its own means that less than that is sent.
    let truncated = head.contains("content-length");
    let length = if truncated { String::new() } else { format!("\r\ncontent-length: {}", body.len()) };
    let head = format!("{head}{length}\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let bytes = [head.as_bytes(), body].concat();
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(&bytes).unwrap();
        if truncated {
            // For a server that is the end of the client: it owes no answer any more.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_bytes_are_gone_is_named_on_every_way_to_it() {
    let world = World::begin().await;
    let run = world.run().await;
    let root = format!("0/{run}/artifacts");
    for path in ["model/model.onnx", "model/MLmodel", "slipway/profile.json"] {
        let bytes =
            if path.ends_with("MLmodel") { &b"flavors:\n  onnx:\n    data: model.onnx\n"[..] } else { MODEL };
        assert_eq!(world.put_file(&format!("{root}/{path}"), bytes).await.0, StatusCode::OK);
    }
    world.post("registered-models/create", json!({"name": "m"})).await;
    let version = json!({"name": "m", "source": format!("runs:/{run}/model"), "run_id": run});
    world.post("model-versions/create", version.clone()).await;
    for key in world.column("SELECT blob_key FROM registry.artifacts").await {
        world.store().delete(&key).await.unwrap();
    }

    let file = format!("{root}/model/model.onnx");
    let proxied = format!("/api/2.0/mlflow-artifacts/artifacts/{file}");
    let of_run = format!("/get-artifact?run_id={run}&path=model/model.onnx");
    let of_version = "/model-versions/get-artifact?name=m&version=1&path=model.onnx".to_owned();
    let presigned = format!("/api/2.0/mlflow-artifacts/presigned/{file}");
    for path in [&proxied, &of_run, &of_version, &presigned] {
        for range in [None, Some("bytes=0-1")] {
            let mut request = world.http.get(format!("{}{path}", world.url));
            if let Some(range) = range {
                request = request.header("range", range);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path} {range:?}");
            let answer: Value = response.json().await.unwrap();
            assert_eq!(answer["error_code"], "RESOURCE_DOES_NOT_EXIST", "{path}: {answer}");
            assert!(answer["message"].as_str().unwrap().contains("model/model.onnx"), "{path}: {answer}");
        }
    }
    let head = world.http.head(format!("{}{proxied}", world.url)).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::NOT_FOUND);
    let asked = json!({"run_id": run, "path": "model/model.onnx"});
    let missing = "RESOURCE_DOES_NOT_EXIST";
    world.refused(Method::POST, "artifacts/presigned-download-url", asked, missing, "model/model.onnx").await;
    world.refused(Method::POST, "model-versions/create", version, missing, "model/MLmodel").await;
    let mut client = RegistryClient::connect(world.url.clone()).await.unwrap();
    let question = GetTrainingProfileRequest { model: "m".into(), version: "1".into() };
    let status = client.get_training_profile(question).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound, "{status}");
    assert!(status.message().contains("slipway/profile.json"), "{status}");

    // Fewer bytes than were stored are not sent as the file.
    let path = format!("{root}/short.txt");
    assert_eq!(world.put_file(&path, b"0123456789").await.0, StatusCode::OK);
    let keys = world.column("SELECT blob_key FROM registry.artifacts WHERE path LIKE '%short.txt'").await;
    world.store().put_bytes(keys.first().unwrap(), "01234".into()).await.unwrap();
    let response = world.file(&path).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(response.text().await.unwrap().contains("short.txt"));
}
