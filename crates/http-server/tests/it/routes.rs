//! What every route has: health, metrics, limits, problems; and extractors whose rejections name the field.

use axum::routing::{get as on_get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{Page, PageQuery};
use slipway_http_server::server::DEFAULT_BODY_LIMIT_BYTES;
use slipway_http_server::{Problem, page};

use crate::world::{World, client, free_port, get};

#[derive(Debug, Deserialize)]
struct Weight {
    weight_percent: u8,
}

#[derive(Debug, Deserialize)]
struct Limit {
    limit: Option<u32>,
    page_token: Option<String>,
}

async fn list(Query(query): Query<Limit>) -> Result<Json<Value>, Problem> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<u32>()?);
    let rows: Vec<u32> = (after.unwrap_or(0) + 1..=5).take(limit as usize + 1).collect();
    let page = Page::of(rows, limit, |row| *row).named("rows");
    Ok(Json(serde_json::to_value(page).unwrap()))
}

fn routes() -> Router {
    Router::new()
        .route("/echo", post(|JsonBody(body): JsonBody<Weight>| async move { Json(body.weight_percent) }))
        .route("/jobs/{number}", on_get(|Path(number): Path<u32>| async move { Json(number) }))
        .route("/rows", on_get(list))
        .route("/panic", on_get(|| async { assert_eq!(1, 2, "a secret of the handler") }))
        .route("/busy", on_get(|| async { Problem::unavailable("the database") }))
}

async fn echo(world: &World, body: &str) -> (u16, Value) {
    let request = client().post(world.url("/echo")).header("content-type", "application/json");
    let answer = request.body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn bad_input_is_a_problem_that_names_the_field() {
    let world = World::serve(routes()).await;
    assert_eq!(echo(&world, r#"{"weight_percent": 7}"#).await, (200, json!(7)));
    for (body, field, detail) in [
        ("{}", "weight_percent", "missing field"),
        (r#"{"weight_percent": 300}"#, "weight_percent", "expected a whole number, not negative"),
        (r#"{"weight_percent": "x"}"#, "weight_percent", "invalid type: string"),
        ("[1]", "body", "invalid type: array, expected an object"),
        ("nonsense", "body", "expected ident"),
    ] {
        let (status, problem) = echo(&world, body).await;
        assert_eq!((status, &problem["field"]), (400, &json!(field)), "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{body}: {problem}");
        assert_eq!(problem["type"], "/errors/invalid-request");
    }
    for (path, field) in [
        ("/jobs/x", "number"),
        ("/jobs/%00", "number"),
        ("/rows?limit=x", "limit"),
        ("/rows?limit=0", "limit"),
        ("/rows?limit=1001", "limit"),
        ("/rows?page_token=x", "page_token"),
        ("/rows?page_token=%00", "page_token"),
    ] {
        let (status, problem) = get(world.url(path)).await;
        assert_eq!((status, &problem["field"]), (400, &json!(field)), "{path}: {problem}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_by_their_tokens() {
    let world = World::serve(routes()).await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    for expected in [2, 2, 1] {
        let (status, body) = get(world.url(&format!("/rows?limit=2&page_token={token}"))).await;
        let rows = body["rows"].as_array().unwrap();
        assert_eq!((status, rows.len()), (200, expected), "{body}");
        seen.extend(rows.iter().map(|row| row.as_u64().unwrap()));
        token = body["next_page_token"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!((seen, token.as_str()), (vec![1, 2, 3, 4, 5], ""));
    assert_eq!(page::DEFAULT_LIMIT, 50);
}

#[tokio::test]
async fn a_path_that_is_not_served_is_a_problem_and_doubled_slashes_are_redirected() {
    let world = World::serve(routes()).await;
    let (status, problem) = get(world.url("/nothing")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("no-such-route")));
    assert!(problem["detail"].as_str().unwrap().contains("GET /nothing"), "{problem}");
    let moved = client().get(world.url("//jobs//7?a=b")).send().await.unwrap();
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()["location"]),
        (308, &"/jobs/7?a=b".parse().unwrap())
    );
}

/// A panic costs its own request, and shows nothing of its cause.
#[tokio::test]
async fn a_handler_that_panics_returns_a_problem_and_the_server_goes_on() {
    let world = World::serve(routes()).await;
    let (status, problem) = get(world.url("/panic")).await;
    assert_eq!((status, &problem["code"]), (500, &json!("internal")));
    assert!(!problem.to_string().contains("secret"), "{problem}");
    assert_eq!(get(world.url("/jobs/7")).await, (200, json!(7)));
}

#[tokio::test]
async fn a_service_behind_that_is_unavailable_is_a_503_with_retry_after() {
    let world = World::serve(routes()).await;
    let answer = client().get(world.url("/busy")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_parsed() {
    let world = World::serve(routes()).await;
    let (status, problem) = echo(&world, &" ".repeat(DEFAULT_BODY_LIMIT_BYTES + 1)).await;
    assert_eq!((status, &problem["code"]), (413, &json!("body-too-large")), "{problem}");
    let padded = format!("{{\"weight_percent\": 7}}{}", " ".repeat(DEFAULT_BODY_LIMIT_BYTES - 21));
    assert_eq!(echo(&world, &padded).await.0, 200, "the limit itself is allowed");
}

#[tokio::test]
async fn health_readiness_and_metrics_have_routes_of_their_own() {
    let world = World::serve(routes()).await;
    world.readiness.waiting("postgres", "connecting");
    assert_eq!(get(world.url("/healthz")).await.0, 200);
    let (status, body) = get(world.url("/readyz")).await;
    assert_eq!((status, &body["waiting_for"]["postgres"]), (503, &json!("connecting")));
    world.readiness.ready("postgres");
    assert_eq!(get(world.url("/readyz")).await, (200, json!({"status": "ready"})));
    get(world.url("/jobs/7")).await;
    get(world.url("/jobs/8")).await;
    let answer = client().get(world.url("/metrics")).send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text().await.unwrap();
    let counted = r#"slipway_http_requests_total{method="GET",route="/jobs/{number}",status="200"} 2"#;
    assert!(text.lines().any(|line| line == counted), "one series for all ids:\n{text}");
    assert!(!text.contains("healthz"), "probes are not counted:\n{text}");
    let messages =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let answer = client().get(world.url("/metrics")).header("accept", messages).send().await.unwrap();
    assert!(
        answer.headers()["content-type"].to_str().unwrap().starts_with("application/vnd.google.protobuf")
    );
}

#[tokio::test]
async fn metrics_can_be_kept_off_a_port() {
    let world = World::serve_on(free_port().await.without_metrics(), routes());
    assert_eq!(get(world.url("/metrics")).await.0, 404);
    assert_eq!(get(world.url("/readyz")).await.0, 200);
}
