//! Models from outside of the registry.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use http::header;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{MODEL, OTHER_MODEL, World};

impl World {
    pub(crate) async fn import(&self, body: Value) -> Value {
        let (status, import) = self.v1(Method::POST, "models/m/imports", body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{import}");
        import
    }

    /// Waits until an import of `m` is as it is to be.
    pub(crate) async fn import_is(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let listed = self.get("/api/v1/models/m/imports").await;
            if let Some(found) = listed["imports"].as_array().unwrap().iter().find(|import| is(import)) {
                return found.clone();
            }
            assert!(started.elapsed() < Duration::from_secs(30), "waited for {what}: {listed}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the alias `champion` of `m` is set, which follows the version.
    pub(crate) async fn champion_is(&self, version: &str) {
        let started = Instant::now();
        while self.get("/api/v1/models/m").await["aliases"]["champion"] != version {
            assert!(started.elapsed() < Duration::from_secs(30), "the alias is not set to {version}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn versions_of_m(&self) -> usize {
        self.get("/api/v1/models/m/versions").await["versions"].as_array().unwrap().len()
    }
}

/// A web server with one file, which may be replaced.
async fn web(file: &Arc<Mutex<Vec<u8>>>) -> String {
    async fn serve(State(file): State<Arc<Mutex<Vec<u8>>>>) -> Response {
        let bytes = file.lock().unwrap().clone();
        let tag = format!("\"{}-{}\"", bytes.len(), bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        ([(header::ETAG, tag)], bytes).into_response()
    }
    let routes = axum::Router::new()
        .route("/models/fraud.onnx", get(serve))
        .route("/models/moved.onnx", get(async || Redirect::permanent("http://127.0.0.1:9/elsewhere")))
        .with_state(Arc::clone(file));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_a_bucket_becomes_a_version_and_new_content_the_next_one() {
    let world = World::importing("").await;
    let place = world.put_outside("fraud/1/model.onnx", MODEL).await;
    world.put_outside("fraud-2/model.onnx", OTHER_MODEL).await;
    world.put_outside("fraud/config.pbtxt", b"name: 'fraud'").await;
    let uri = format!("{place}/fraud");
    let body = json!({"uri": uri, "alias": "champion", "watch": true});
    let import = world.import(body.clone()).await;
    assert_eq!((&import["version"], &import["alias"]), (&Value::Null, &json!("champion")), "{import}");
    assert_eq!(world.import(body).await["id"], import["id"], "it is the same import");
    let first = world.import_is("version 1", |import| import["version"] == "1").await;
    assert!(first["problem"].is_null(), "{first}");
    let version = world.get("/api/v1/models/m/versions/1").await;
    assert_eq!(version["tags"]["slipway.import_uri"], json!(uri), "{version}");
    let files: Vec<&str> =
        version["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(files, ["model.onnx"], "the newest version in the layout of Triton");
    assert_eq!(version["servable"], true, "{version}");
    world.champion_is("1").await;

    world.put_outside("fraud/1/model.onnx", OTHER_MODEL).await;
    let changed = Instant::now();
    world.import_is("version 2", |import| import["version"] == "2").await;
    world.champion_is("2").await;
    assert!(changed.elapsed() < Duration::from_secs(15), "{:?}", changed.elapsed());
    // What was there before is the version before.
    world.put_outside("fraud/1/model.onnx", MODEL).await;
    world.import_is("version 1 again", |import| import["version"] == "1").await;
    assert_eq!(world.versions_of_m().await, 2);

    let id = import["id"].as_str().unwrap();
    let path = format!("models/m/imports/{id}");
    assert_eq!(world.v1(Method::DELETE, &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(world.v1(Method::DELETE, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/api/v1/models/m/imports").await["imports"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_web_server_is_imported_and_a_redirect_is_not_followed() {
    let file = Arc::new(Mutex::new(MODEL.to_vec()));
    let url = web(&file).await;
    let world = World::importing(&format!("{url}/models/")).await;
    world.import(json!({"uri": format!("{url}/models/fraud.onnx"), "watch": true})).await;
    world.import_is("version 1", |import| import["version"] == "1").await;
    let version = world.get("/api/v1/models/m/versions/1").await;
    assert_eq!(version["files"][0]["path"], "fraud.onnx", "{version}");
    assert_eq!(version["servable"], true, "{version}");
    *file.lock().unwrap() = OTHER_MODEL.to_vec();
    world.import_is("version 2", |import| import["version"] == "2").await;

    world.import(json!({"uri": format!("{url}/models/moved.onnx")})).await;
    let refused = world
        .import_is("a problem", |import| {
            import["problem"].as_str().is_some_and(|why| why.contains("leads to"))
        })
        .await;
    assert_eq!(refused["version"], Value::Null, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_or_no_address_is_refused_with_the_field() {
    let world = World::importing("").await;
    for (body, field, text) in [
        (json!({"uri": "s3://other/x"}), "uri", "SLIPWAY_IMPORT_SOURCES"),
        (json!({"uri": "http://169.254.169.254/latest"}), "uri", "SLIPWAY_IMPORT_SOURCES"),
        (json!({"uri": "file:///etc/passwd"}), "uri", "expected s3://"),
        (json!({"uri": "x".repeat(4_000)}), "uri", "at most 2048 bytes"),
    ] {
        let (status, problem) = world.v1(Method::POST, "models/m/imports", body).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(text), "{problem}");
    }
    let place = world.put_outside("fraud/model.onnx", MODEL).await;
    let reserved = json!({"uri": format!("{place}/fraud"), "alias": "latest"});
    assert_eq!(world.v1(Method::POST, "models/m/imports", reserved).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(world.v1(Method::GET, "models/m/imports", Value::Null).await.0, StatusCode::NOT_FOUND);
}
