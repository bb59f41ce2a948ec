//! What a web page of another origin tries: it neither starts nor ends a job, and reads nothing.

use reqwest::{Method, StatusCode};
use serde_json::json;
use slipway_testkit::{forge, rebind};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_start_and_end_nothing() {
    let world = World::begin().await;
    let address = world.url.trim_start_matches("http://").to_owned();
    let started = world.data_dir.join("started-by-a-page");
    let body = json!({"name": "forged", "command": ["touch", started]}).to_string();
    let (_, running) = world.try_submit(None, &json!({"name": "mine", "command": ["sleep", "300"]})).await;
    let id = running["id"].as_str().unwrap();
    let mut passed = Vec::new();
    for (method, path) in [
        ("POST", "/api/v1/jobs".to_owned()),
        ("POST", "/api/v1/jobs?x=.json".to_owned()),
        ("POST", "//api/v1/jobs".to_owned()),
        ("POST", format!("/api/v1/jobs/{id}/cancel")),
        ("POST", "/slipway.launcher.v1.Launcher/SubmitJob".to_owned()),
        ("POST", "/slipway.launcher.v1.Launcher/CancelJob".to_owned()),
        ("POST", "/slipway.launcher.v1.Agents/Heartbeat".to_owned()),
    ] {
        passed.extend(forge(&address, method, &path, &body).await);
    }
    for path in [
        "/api/v1/jobs".to_owned(),
        format!("/api/v1/jobs/{id}/logs"),
        "/api/v1/capacity".to_owned(),
        "/metrics".to_owned(),
        "/readyz".to_owned(),
    ] {
        passed.extend(rebind(&address, &path).await);
    }
    assert!(passed.is_empty(), "{} forged requests passed:\n{}", passed.len(), passed.join("\n"));
    let jobs = world.get("/api/v1/jobs").await;
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "{jobs}");
    assert!(matches!(jobs["jobs"][0]["status"].as_str(), Some("queued" | "starting" | "running")), "{jobs}");

    // The same requests by a client, which has no page.
    let cancelled = world.request(Method::POST, &format!("/api/v1/jobs/{id}/cancel"), String::new()).await;
    assert!(cancelled.status().is_success(), "{}", cancelled.status());
    let submitted = world.request(Method::POST, "/api/v1/jobs", body).await;
    assert_eq!(submitted.status(), StatusCode::CREATED);
    let id = submitted.json::<serde_json::Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    world.ended(&id, "succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_header_and_the_setting() {
    let world = World::begin().await;
    for (header, value, status, code, words) in [
        ("host", "evil.example", 403, "host-not-allowed", "SLIPWAY_ALLOWED_HOSTS"),
        ("origin", "http://evil.example", 403, "origin-not-allowed", "SLIPWAY_ALLOWED_ORIGINS"),
        (
            "content-type",
            "text/plain",
            415,
            "unsupported-media-type",
            "expected application/json, got `text/plain`",
        ),
    ] {
        let request = reqwest::Client::new().post(format!("{}/api/v1/jobs", world.url)).body("{}");
        let response = request.header(header, value).send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let answer: serde_json::Value = response.json().await.unwrap();
        assert_eq!(answer["code"], code, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{answer}");
    }
}
