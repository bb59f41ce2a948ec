//! Artifacts come back byte for byte; what broke off is not there.

use std::io::{Read as _, Write as _};

use reqwest::{Method, StatusCode};
use serde_json::json;

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
    for path in ["1/r//x", "1/r/a%5Cb", "1/r/a%00b"] {
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
    // An older file of that name outlives an upload that broke off, too; and the next one goes well.
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

/// Sends bytes as they are; what came back.
async fn wire(world: &World, head: &str, body: &[u8]) -> String {
    let address = world.url.strip_prefix("http://").unwrap().to_owned();
    // A length of its own means that less than that is sent.
    let truncated = head.contains("content-length");
    let length = if truncated { String::new() } else { format!("\r\ncontent-length: {}", body.len()) };
    let head = format!("{head}{length}\r\nhost: x\r\nconnection: close\r\n\r\n");
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
