//! Requests that a web page of another origin could send are refused, in the shape that the service uses for
//! errors.

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use slipway_http_server::guard::GuardConfig;
use slipway_http_server::{Bodies, Guard};

use crate::world::{World, client, free_port};

fn routes() -> Router {
    Router::new()
        .route("/read", get(|| async { "read" }))
        .route("/write", post(|| async { "written" }))
        .route("/upload", post(|body: axum::body::Bytes| async move { body.len().to_string() }))
}

async fn guarded(guard: Guard) -> World {
    World::serve_on(free_port().await.with_guard(guard), routes())
}

fn write(world: &World) -> RequestBuilder {
    client().post(world.url("/write")).header("content-type", "application/json").body("{}")
}

async fn refused(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json::<Value>().await.map_or(Value::Null, |problem| problem["code"].clone()))
}

#[tokio::test]
async fn names_pages_and_bodies_are_checked_before_the_routes() {
    let world = guarded(Guard::default()).await;
    assert_eq!(write(&world).send().await.unwrap().text().await.unwrap(), "written");
    for (name, value, expected) in [
        ("host", "evil.example", (403, json!("host-not-allowed"))),
        ("origin", "https://evil.example", (403, json!("origin-not-allowed"))),
        ("origin", "null", (403, json!("origin-not-allowed"))),
        ("sec-fetch-site", "cross-site", (403, json!("origin-not-allowed"))),
        ("referer", "https://evil.example/page", (403, json!("origin-not-allowed"))),
    ] {
        assert_eq!(refused(write(&world).header(name, value)).await, expected, "{name}: {value}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let request = client().post(world.url("/write")).header("content-type", kind).body("{}");
        assert_eq!(refused(request).await, (415, json!("unsupported-media-type")), "{kind}");
    }
    let reading = client().get(world.url("/read")).header("origin", "https://evil.example");
    assert_eq!(reading.send().await.unwrap().status(), 200, "a page cannot read the answer");
}

#[tokio::test]
async fn configured_names_and_origins_are_allowed() {
    let config = GuardConfig {
        allowed_hosts: vec!["registry".into(), "*.example.org".into()],
        allowed_origins: vec!["https://console.example.org".into()],
    };
    let world = guarded(config.guard().unwrap()).await;
    for host in ["registry", "a.example.org"] {
        assert_eq!(write(&world).header("host", host).send().await.unwrap().status(), 200, "{host}");
    }
    assert_eq!(refused(write(&world).header("host", "example.com")).await.0, 403);
    let console = write(&world).header("origin", "https://console.example.org");
    assert_eq!(console.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_service_says_which_bodies_its_routes_take_and_how_it_refuses() {
    let guard = Guard::default()
        .with_bodies(|_method, path| if path == "/upload" { Bodies::File } else { Bodies::Json })
        .with_shape(|refusal, _path| (refusal.status(), axum::Json(json!({"code": "MINE"}))).into_response());
    let world = guarded(guard).await;
    let upload = client().post(world.url("/upload")).header("content-type", "application/zip").body("abc");
    assert_eq!(upload.send().await.unwrap().text().await.unwrap(), "3");
    let text = client().post(world.url("/write")).header("content-type", "text/plain").body("{}");
    assert_eq!(refused(text).await, (415, json!("MINE")));
}

/// The refusal reaches a client that sends all of a large body first.
#[tokio::test]
async fn a_refused_client_gets_its_answer_whatever_it_still_sends() {
    let world = guarded(Guard::default()).await;
    let body = vec![b'x'; 16 * 1024 * 1024];
    let request = client().post(world.url("/upload")).header("content-type", "text/plain").body(body);
    assert_eq!(refused(request).await, (415, json!("unsupported-media-type")));
}
