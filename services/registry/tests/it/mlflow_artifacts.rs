//! The ways to a file next to the proxy, and paths as MLflow reads them.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::world::{MODEL, World};

const INVALID: &str = "INVALID_PARAMETER_VALUE";

fn header<'response>(response: &'response Response, name: &str) -> &'response str {
    response.headers()[name].to_str().unwrap()
}

/// Status, code and message of a refusal.
async fn refusal(world: &World, method: Method, path: &str, body: &str) -> (StatusCode, Value, String) {
    let response = world.raw(method, path, body.to_owned()).await;
    let status = response.status();
    let answer: Value = response.json().await.unwrap();
    (status, answer["error_code"].clone(), answer["message"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_is_the_directory_itself_and_no_path_leaves_it() {
    let world = World::begin().await;
    let run = world.run().await;
    for path in ["a.txt", "dir/b.txt"] {
        assert_eq!(world.put_file(&format!("0/{run}/artifacts/{path}"), b"x").await.0, StatusCode::OK);
    }
    let listed = |path: &str| {
        let address = format!("/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}");
        let world = &world;
        async move {
            let found = world.get(&address).await;
            let files = found["files"].as_array().cloned().unwrap_or_default();
            files.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(listed("").await, ["a.txt", "dir"]);
    assert_eq!(listed(".").await, ["./a.txt", "./dir"]);
    assert_eq!(listed("./dir").await, ["./dir/b.txt"]);
    assert_eq!(listed("dir/").await, ["dir/b.txt"]);
    let proxied = world.get(&format!("/api/2.0/mlflow-artifacts/artifacts?path=0/{run}/artifacts/.")).await;
    assert_eq!(proxied["files"].as_array().unwrap().len(), 2);
    for path in ["..", "dir/../../x", "/etc/passwd", "%252e%252e/x", "..%252fx", "dir%5Cb", "C:/x"] {
        for address in [
            format!("/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}"),
            format!("/get-artifact?run_id={run}&path={path}"),
            format!("/model-versions/get-artifact?name=m&version=1&path={path}"),
            format!("/ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files?artifact_file_path={path}"),
        ] {
            let answer = refusal(&world, Method::GET, &address, "").await;
            assert_eq!(
                answer,
                (StatusCode::BAD_REQUEST, json!(INVALID), "Invalid path".to_owned()),
                "{address}"
            );
        }
    }
    for path in [".%2F", ".%2F."] {
        let address = format!("/api/2.0/mlflow-artifacts/artifacts/{path}");
        let (status, _, message) = refusal(&world, Method::DELETE, &address, "").await;
        assert_eq!(
            (status, message.as_str()),
            (StatusCode::BAD_REQUEST, "The root of all artifacts cannot be deleted")
        );
    }
    assert_eq!(listed("").await, ["a.txt", "dir"], "nothing is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_downloaded_by_run_version_and_logged_model() {
    let world = World::begin().await;
    let id = world.onnx_model(MODEL).await;
    assert_eq!(world.version("m", &id).await.0, StatusCode::OK);
    let run = world.run().await;
    for (name, mime_type, disposition) in [
        ("a.txt", "text/plain", "attachment; filename=a.txt"),
        ("b.pkl", "application/octet-stream", "attachment; filename=b.pkl"),
        ("c.png", "image/png", "attachment; filename=c.png"),
        ("page.html", "text/html", "attachment; filename=page.html"),
        ("dog+1.json", "text/plain", "attachment; filename=dog+1.json"),
        ("a b.txt", "text/plain", "attachment; filename=\"a b.txt\""),
        ("ü.txt", "text/plain", "attachment; filename=u.txt; filename*=UTF-8''%C3%BC.txt"),
    ] {
        let escaped = name.replace('+', "%2B").replace(' ', "%20").replace('ü', "%C3%BC");
        let place = format!("0/{run}/artifacts/{escaped}");
        assert_eq!(world.put_file(&place, b"bytes").await.0, StatusCode::OK);
        let by_run = world.raw(Method::GET, &format!("/get-artifact?run_id={run}&path={escaped}"), "").await;
        for response in [by_run, world.file(&place).await] {
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            assert_eq!(header(&response, "content-type"), mime_type, "{name}");
            assert_eq!(header(&response, "content-disposition"), disposition);
            assert_eq!(header(&response, "x-content-type-options"), "nosniff");
            assert_eq!(response.text().await.unwrap(), "bytes");
        }
    }
    for address in [
        "/model-versions/get-artifact?name=m&version=1&path=model.onnx".to_owned(),
        format!("/ajax-api/2.0/mlflow/logged-models/{id}/artifacts/files?artifact_file_path=./model.onnx"),
    ] {
        let response = world.raw(Method::GET, &address, "").await;
        assert_eq!(response.status(), StatusCode::OK, "{address}");
        assert!(response.bytes().await.unwrap() == MODEL, "{address}");
    }
    for (address, status, message) in [
        (format!("/get-artifact?run_id={run}&path=nope"), StatusCode::NOT_FOUND, "No such artifact: '"),
        (
            format!("/get-artifact?run_id={run}&path=."),
            StatusCode::BAD_REQUEST,
            "refers to a directory, not a file",
        ),
        (
            format!("/get-artifact?run_id={run}"),
            StatusCode::BAD_REQUEST,
            "must include the \"path\" query parameter",
        ),
        ("/get-artifact?run_id=nope&path=a".to_owned(), StatusCode::NOT_FOUND, "Run with id=nope not found"),
        (
            "/model-versions/get-artifact?name=m&version=7&path=a".to_owned(),
            StatusCode::NOT_FOUND,
            "version=7) not found",
        ),
    ] {
        let answer = refusal(&world, Method::GET, &address, "").await;
        assert!(answer.0 == status && answer.2.contains(message), "{address}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_uploads_a_file_of_a_run() {
    let world = World::begin().await;
    let run = world.run().await;
    let address = |query: &str| format!("/ajax-api/2.0/mlflow/upload-artifact?{query}");
    let file = address(&format!("run_uuid={run}&path=up/test.txt"));
    let response = world.raw(Method::POST, &file, "hello world").await;
    assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.unwrap());
    let found = world.raw(Method::GET, &format!("/get-artifact?run_uuid={run}&path=up/test.txt"), "").await;
    assert_eq!(found.text().await.unwrap(), "hello world");
    assert_eq!(world.events("slipway.registry.artifact.uploaded", 1).await.len(), 1);
    let large = "x".repeat(10 * 1024 * 1024 + 1);
    for (query, body, message) in [
        (String::new(), "x", "Request must specify run_uuid."),
        (format!("run_uuid={run}"), "x", "Request must specify path."),
        (format!("run_uuid={run}&path="), "x", "Request must specify path."),
        (format!("run_uuid={run}&path=../test.txt"), "x", "Invalid path"),
        (format!("run_uuid={run}&path=test.txt"), "", "Request must specify data."),
        (format!("run_uuid={run}&path=a/./b"), "x", "Invalid artifact path: '"),
        (format!("run_uuid={run}&path=big"), &large, "Artifact size is too large. Max size is 10MB."),
    ] {
        let answer = refusal(&world, Method::POST, &address(&query), body).await;
        assert_eq!((answer.0, &answer.1), (StatusCode::BAD_REQUEST, &json!(INVALID)), "{query}");
        assert!(answer.2.starts_with(message), "{query}: {}", answer.2);
    }
    // A version's files do not change on this way either.
    let id = world.onnx_model(MODEL).await;
    assert_eq!(world.version("m", &id).await.0, StatusCode::OK);
    let whole =
        json!({"name": "m", "source": format!("mlflow-artifacts:/0/{run}/artifacts/up"), "run_id": run});
    world.post("model-versions/create", whole).await;
    let (status, _, message) = refusal(&world, Method::POST, &file, "something else").await;
    assert_eq!(status, StatusCode::CONFLICT, "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slashes_of_a_path_are_taken_as_mlflow_takes_them() {
    let world = World::begin().await;
    // Status of an upload and of a download after it, as MLflow 3.17 answers.
    for (path, put, get) in [
        ("0/a/b.txt", StatusCode::OK, StatusCode::OK),
        ("0/a//c.txt", StatusCode::OK, StatusCode::OK),
        ("0/a%2F%2Fd.txt", StatusCode::OK, StatusCode::OK),
        ("/0/a/b.txt", StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST),
        ("//0/a/b.txt", StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST),
        ("%2F0/a/b.txt", StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST),
        ("0/a/", StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(world.put_file(path, b"x").await.0, put, "PUT {path}");
        assert_eq!(world.file(path).await.status(), get, "GET {path}");
    }
    let listed = world.get("/api/2.0/mlflow-artifacts/artifacts?path=0/a").await;
    let names: Vec<&str> =
        listed["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["b.txt", "c.txt", "d.txt"]);
}
