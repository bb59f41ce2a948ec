//! What a web page of another origin tries, on every route of every API, with access off and on: it changes
//! nothing, and reads nothing.

use reqwest::Method;
use serde_json::{Value, json};
use slipway_testkit::{forge, forge_file, rebind};

use crate::values::{Known, known, mlflow, rest};
use crate::world::World;

/// All that the forged requests are about, as it is shown.
async fn state(world: &World) -> Vec<Value> {
    let mut shown = Vec::new();
    for path in ["models", "models/m/versions", "runs", "webhooks", "retention-rules", "tokens", "grants"] {
        shown.push(world.v1(Method::GET, path, Value::Null).await.1);
    }
    for path in ["experiments/search?max_results=99", "experiments/get?experiment_id=0"] {
        shown.push(world.get(&format!("/api/2.0/mlflow/{path}")).await);
    }
    shown
}

/// Methods and paths of the OpenAPI document.
async fn documented(world: &World) -> Vec<(String, String)> {
    let document = world.v1(Method::GET, "openapi.json", Value::Null).await.1;
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|method| *method != "get") {
            found.push((method.to_uppercase(), path.replace(['{', '}'], "")));
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

async fn attack(world: &World, known: &Known) -> Vec<String> {
    let address = world.url.trim_start_matches("http://");
    let mut passed = Vec::new();
    for (prefix, requests) in
        [("/api/2.0/mlflow/", mlflow(known)), ("/ajax-api/2.0/mlflow/", mlflow(known)), ("/api/v1/", rest())]
    {
        for (method, path, body) in requests {
            passed
                .extend(forge(address, method.as_str(), &format!("{prefix}{path}"), &body.to_string()).await);
        }
    }
    for (method, path) in documented(world).await {
        // Files may have any type, where pages cannot send them without asking.
        if (method.as_str(), path.as_str()) == ("PUT", "/api/v1/runs/run_id/artifacts/content") {
            let path = format!("/api/v1/runs/{}/artifacts/content?path=forged.txt", known.run);
            passed.extend(forge_file(address, "PUT", &path, "forged").await);
        } else if (method.as_str(), path.as_str()) == ("PUT", "/api/v1/imports/id/files") {
            passed.extend(forge_file(address, "PUT", &path, "forged").await);
        } else {
            passed.extend(forge(address, &method, &path, "{}").await);
        }
    }
    for path in ["mpu/create/0/f", "mpu/complete/0/f", "mpu/abort/0/f"] {
        let path = format!("/api/2.0/mlflow-artifacts/{path}");
        passed.extend(forge(address, "POST", &path, r#"{"num_parts": 1, "path": "f"}"#).await);
    }
    passed.extend(forge(address, "POST", "/slipway.registry.v1.Registry/ResolveAlias", "{}").await);
    let file = format!("/api/2.0/mlflow-artifacts/artifacts/0/{}/artifacts/forged.txt", known.run);
    passed.extend(forge_file(address, "PUT", &file, "forged").await);
    passed.extend(forge_file(address, "DELETE", &file, "").await);
    let upload = format!("/ajax-api/2.0/mlflow/upload-artifact?run_uuid={}&path=forged.txt", known.run);
    passed.extend(forge_file(address, "POST", &upload, "forged").await);
    for path in [
        "/",
        "/api/v1/models",
        "/api/v1/openapi.json",
        "/api/2.0/mlflow/experiments/get?experiment_id=0",
        "/health",
        "/version",
        "/metrics",
        "/readyz",
    ] {
        passed.extend(rebind(address, path).await);
    }
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_change_and_read_nothing() {
    let world = World::begin().await;
    let known = known(&world).await;
    let before = state(&world).await;
    let passed = attack(&world, &known).await;
    assert!(passed.is_empty(), "{} forged requests passed:\n{}", passed.len(), passed.join("\n"));
    assert_eq!(state(&world).await, before);

    // The upload of a page is a form, or of a type that forms have.
    let upload =
        format!("{}/ajax-api/2.0/mlflow/upload-artifact?run_uuid={}&path=f.txt", world.url, known.run);
    let send = |kind: &'static str, origin: Option<String>| {
        let request = world.http.post(&upload).header("content-type", kind).body("text");
        origin.into_iter().fold(request, |request, origin| request.header("origin", origin)).send()
    };
    for kind in ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"] {
        assert_eq!(send(kind, None).await.unwrap().status(), 415, "{kind}");
    }
    assert_eq!(send("text/plain", Some(world.url.clone())).await.unwrap().status(), 200, "its own page");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_a_browser_adds_by_itself_does_not_help_a_page() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let create = format!("{}/api/2.0/mlflow/experiments/create", world.url);
    let send = |headers: &[(&'static str, &'static str)], name: &str| {
        let request = world.http.post(&create).basic_auth("token", Some(admin.token()));
        let request =
            request.header("content-type", "application/json").body(json!({"name": name}).to_string());
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send()
    };
    for forged in [
        [("origin", "http://evil.example")],
        [("origin", "null")],
        [("sec-fetch-site", "cross-site")],
        [("host", "evil.example")],
    ] {
        let response = send(&forged, "forged").await.unwrap();
        assert_eq!(response.status(), 403, "{forged:?}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["error_code"], "PERMISSION_DENIED", "{answer}");
    }
    assert_eq!(send(&[], "by a client").await.unwrap().status(), 200);
}
