//! What people see: the page at `/`, versions that cannot be served, and what is not served at all.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_at_the_root_is_static_and_strict() {
    let world = World::guarded(&[]).await;
    let answer = world.raw(Method::GET, "/", "").await;
    assert_eq!(answer.status(), StatusCode::OK, "it holds no data, so it needs no token");
    let headers = answer.headers().clone();
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    let page = answer.text().await.unwrap();
    for link in ["api/v1/docs", "api/v1/openapi.json", "docs/api.md"] {
        assert!(page.contains(link), "{link}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_served_says_so_everywhere() {
    let world = World::begin().await;
    let id = world.logged_model(&[("MLmodel", b"flavors:\n  sklearn:\n    code: null\n")]).await;
    world.post("registered-models/create", json!({"name": "m"})).await;
    let body = json!({"name": "m", "source": format!("models:/{id}"), "model_id": id}).to_string();
    let answer = world.raw(Method::POST, "/api/2.0/mlflow/model-versions/create", body).await;
    let warning = answer.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.starts_with("299 ") && warning.contains("it holds no ONNX model"), "{warning}");
    let made: Value = answer.json().await.unwrap();
    let version = &made["model_version"];
    let why = "registered, but Slipway cannot serve it: it holds no ONNX model";
    assert!(version["status_message"].as_str().unwrap().starts_with(why), "{version}");
    let found = world.get("/api/2.0/mlflow/model-versions/search?filter=name%3D'm'").await;
    let tags = &found["model_versions"][0]["tags"];
    assert_eq!(tags[0]["key"], "slipway.unservable", "{tags}");
    let models = world.get("/api/v1/models").await;
    assert_eq!(models["models"][0]["latest_servable"], false, "{models}");
    let told = world.events("slipway.registry.model-version.unservable", 1).await;
    assert_eq!(told[0].parse::<Value>().unwrap()["details"]["version"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_refused_at_the_first_step() {
    let world = World::begin().await;
    let tags = json!([{"key": "mlflow.prompt.is_prompt", "value": "true"}]);
    let prompt = json!({"name": "greeting", "tags": tags});
    let path = "registered-models/create";
    world.refused(Method::POST, path, prompt, "ENDPOINT_NOT_FOUND", "no prompt was registered").await;
    let (status, _) = world.try_call(Method::GET, "registered-models/get?name=greeting", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "nothing is left behind");
    for path in [
        "/api/3.0/mlflow/traces/search",
        "/api/2.0/mlflow/gateway/routes",
        "/ajax-api/3.0/mlflow/datasets/create",
    ] {
        let answer = world.raw(Method::POST, path, "{}").await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        let refused: Value = answer.json().await.unwrap();
        assert_eq!(refused["error_code"], "ENDPOINT_NOT_FOUND", "{path}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("docs/api.md") && message.contains(path), "{message}");
    }
}
