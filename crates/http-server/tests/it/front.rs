//! A front answers its own routes before the router, and is counted as the router is.

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get as on_get, post};
use slipway_http_server::front::Front;
use slipway_http_server::server;

use crate::world::{World, client, free_port, get};

/// Answers `/fast/<text>` with the body's length.
#[derive(Debug, Clone)]
struct Fast;

impl Front for Fast {
    const ROUTES: &'static [&'static str] = &["/fast/{name}"];

    fn route(&self, request: &Request) -> Option<usize> {
        request.uri().path().starts_with("/fast/").then_some(0)
    }

    fn answer(&self, _route: usize, request: Request) -> impl Future<Output = Response> + Send + 'static {
        length(request)
    }
}

async fn length(request: Request) -> Response {
    assert_ne!(request.uri().path(), "/fast/panic", "a bug");
    to_bytes(request.into_body(), 1_024).await.unwrap().len().to_string().into_response()
}

async fn world() -> World {
    let routes = Router::new()
        .route("/slow", post(|| async { "slow" }))
        .route("/fast/{name}", on_get(|| async { axum::Json("by the router") }));
    World::start(free_port().await, |port, readiness, metrics, shutdown| {
        tokio::spawn(server::serve_behind(Fast, port, routes, readiness, metrics, shutdown))
    })
}

async fn send(world: &World, path: &str, body: &'static str) -> (u16, String) {
    let request = client().post(world.url(path)).header("content-type", "application/json");
    let answer = request.body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_front_answers_its_own_routes_by_post_and_leaves_the_others() {
    let world = world().await;
    assert_eq!(send(&world, "/fast/a", "[1,2]").await, (200, "5".into()));
    assert_eq!(send(&world, "/fast/b", "").await, (200, "0".into()));
    assert_eq!(send(&world, "/slow", "{}").await, (200, "slow".into()));
    assert_eq!(get(world.url("/fast/a")).await.1, "by the router");
    assert_eq!(get(world.url("/readyz")).await.0, 200);
    let counted = |method: &str, route: &str, count: u32| {
        let labels = format!(r#"method="{method}",route="{route}",status="200""#);
        assert!(world.counts(&format!("slipway_http_requests_total{{{labels}}} {count}")), "{labels}");
    };
    counted("POST", "/fast/{name}", 2);
    counted("POST", "/slow", 1);
    counted("GET", "/fast/{name}", 1);
}

#[tokio::test]
async fn a_front_that_panics_costs_one_request() {
    let world = world().await;
    let (status, problem) = send(&world, "/fast/panic", "{}").await;
    assert_eq!(status, 500);
    assert!(problem.contains("/errors/internal") && !problem.contains("a bug"), "{problem}");
    assert_eq!(send(&world, "/fast/a", "[]").await, (200, "2".into()));
    let failed = r#"slipway_http_requests_total{method="POST",route="/fast/{name}",status="500"} 1"#;
    assert!(world.counts(failed));
}

#[tokio::test]
async fn the_guard_is_in_front_of_the_front() {
    let world = world().await;
    let request = client().post(world.url("/fast/a")).header("origin", "https://evil.example");
    assert_eq!(request.header("content-type", "application/json").send().await.unwrap().status(), 403);
}
