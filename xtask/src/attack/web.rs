//! A web page of another site, in the browser of someone who may do everything: no request of it is carried
//! out, and it reads nothing.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Door;
use super::platform::{Platform, SERVICES};

const EVIL: &str = "http://evil.example";
/// Most of an answer that is looked at.
const MAX_ANSWER: u64 = 64 * 1024;

pub(super) async fn doors(platform: &Platform) -> anyhow::Result<Vec<Door>> {
    Ok(vec![
        writes(platform).await?,
        foreign_hosts(platform).await?,
        raw_requests(platform).await?,
        preflights(platform).await?,
        job(platform).await?,
    ])
}

/// Routes that change something: service, method, path, body.
fn routes() -> Vec<(&'static str, Method, &'static str, Value)> {
    let (post, put, patch, delete) = (Method::POST, Method::PUT, Method::PATCH, Method::DELETE);
    let empty = || json!({});
    vec![
        ("launcher", post.clone(), "/api/v1/jobs", json!({"name": "page", "command": ["true"]})),
        ("launcher", post.clone(), "/api/v1/jobs/00000000-0000-0000-0000-000000000000/cancel", empty()),
        (
            "rollout_controller",
            post.clone(),
            "/api/v1/deployments",
            json!({"name": "page", "model": "m", "version": "1"}),
        ),
        ("rollout_controller", patch.clone(), "/api/v1/deployments/page", json!({"watch_alias": "champion"})),
        (
            "rollout_controller",
            put.clone(),
            "/api/v1/deployments/page/kill-switch",
            json!({"mode": "refuse"}),
        ),
        ("rollout_controller", delete.clone(), "/api/v1/deployments/page", empty()),
        (
            "drift_monitor",
            post.clone(),
            "/api/v1/monitors",
            json!({"name": "page", "deployment": "d", "model": "m"}),
        ),
        ("drift_monitor", delete.clone(), "/api/v1/monitors/page", empty()),
        ("registry", post.clone(), "/api/2.0/mlflow/experiments/create", json!({"name": "page"})),
        ("registry", post.clone(), "/ajax-api/2.0/mlflow/experiments/create", json!({"name": "page"})),
        ("registry", post.clone(), "/api/2.0/mlflow/registered-models/create", json!({"name": "page"})),
        ("registry", patch, "/api/2.0/mlflow/registered-models/update", json!({"name": "page"})),
        ("registry", delete, "/api/2.0/mlflow/registered-models/delete", json!({"name": "page"})),
        ("registry", put.clone(), "/api/2.0/mlflow-artifacts/artifacts/page.txt", json!("page")),
        ("registry", post.clone(), "/api/v1/tokens", json!({"name": "page", "principal": "page"})),
        ("registry", put, "/api/v1/grants", json!({"subject": "page", "role": "admin", "scope": "*"})),
        ("registry", post.clone(), "/api/v1/purge", json!({"dry_run": false})),
        ("serving_http", post.clone(), "/v2/repository/models/m/load", empty()),
        ("serving_http", post.clone(), "/v2/repository/models/m/unload", empty()),
        ("serving_http", post.clone(), "/v2/logging", json!({"log_warning": false})),
        ("serving_http", post, "/v2/trace/setting", json!({"trace_level": ["OFF"]})),
    ]
}

type Disguise = (&'static str, fn(RequestBuilder, &Value) -> RequestBuilder);

/// How a page sends them: what a form or `fetch` in the mode `no-cors` can, and what another page's `fetch`
/// does.
fn disguises() -> [Disguise; 8] {
    fn typed(request: RequestBuilder, body: &Value, media_type: &str) -> RequestBuilder {
        request.header("content-type", media_type).body(body.to_string())
    }
    fn from(request: RequestBuilder, body: &Value, name: &str, value: &str) -> RequestBuilder {
        request.header(name, value).json(body)
    }
    [
        ("text/plain", |request, body| typed(request, body, "text/plain")),
        ("a form", |request, body| typed(request, body, "application/x-www-form-urlencoded")),
        ("multipart", |request, body| typed(request, body, "multipart/form-data; boundary=x")),
        ("text/plain that mentions JSON", |request, body| {
            typed(request, body, "text/plain; a=application/json")
        }),
        ("a foreign origin", |request, body| from(request, body, "origin", EVIL)),
        ("the origin null", |request, body| from(request, body, "origin", "null")),
        ("another port of this host", |request, body| from(request, body, "origin", "http://127.0.0.1:1")),
        ("cross-site", |request, body| from(request, body, "sec-fetch-site", "cross-site")),
    ]
}

fn is_refused(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::FORBIDDEN
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::BAD_REQUEST
    )
}

async fn writes(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("web page: requests that change something");
    for (service, method, path, body) in routes() {
        for (name, disguise) in disguises() {
            // An artifact is a file of any type: a page cannot send PUT without a preflight.
            if path.contains("mlflow-artifacts") && !name.contains("origin") && !name.contains("site") {
                continue;
            }
            let request = disguise(platform.as_admin(method.clone(), service, path), &body);
            let status = request.send().await.with_context(|| format!("{service} {path}"))?.status();
            let open =
                (!is_refused(status)).then(|| format!("{method} {service} {path} as {name}: {status}"));
            door.attempt(open);
        }
    }
    Ok(door)
}

/// DNS rebinding: a name of the attacker that leads here, in whose page's eyes this is its own site.
async fn foreign_hosts(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("web page: a name that leads here (DNS rebinding)");
    let reads = [
        ("registry", "/api/2.0/mlflow/experiments/get?experiment_id=0"),
        ("registry", "/"),
        ("launcher", "/api/v1/jobs"),
        ("rollout_controller", "/api/v1/deployments"),
        ("drift_monitor", "/api/v1/monitors"),
        ("serving_http", "/v2/models/m/config"),
        ("serving_http", "/v2"),
    ];
    for (service, path) in reads {
        let port = platform.address(service).rsplit(':').next().unwrap_or_default().to_owned();
        let hosts = [
            "evil.example".to_owned(),
            format!("evil.example:{port}"),
            format!("127.0.0.1.evil.example:{port}"),
        ];
        for host in hosts {
            let request = platform.as_admin(Method::GET, service, path).header("host", &host);
            let status = request.send().await?.status();
            door.attempt((!is_refused(status)).then(|| format!("GET {service} {path} at {host}: {status}")));
        }
    }
    Ok(door)
}

/// Hosts that only a hand-made request can have.
async fn raw_requests(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("web page: contradicting hosts");
    for service in SERVICES {
        let address = platform.address(service);
        let here = address.trim_start_matches("http://").to_owned();
        let token = &platform.admin_token;
        let heads = [
            ("an absolute URL", format!("GET http://evil.example/api/v1/jobs HTTP/1.1\r\nHost: {here}\r\n")),
            ("two hosts", format!("GET /api/v1/jobs HTTP/1.1\r\nHost: {here}\r\nHost: evil.example\r\n")),
            (
                "two hosts, foreign first",
                format!("GET /api/v1/jobs HTTP/1.1\r\nHost: evil.example\r\nHost: {here}\r\n"),
            ),
            ("a user in front", format!("GET /api/v1/jobs HTTP/1.1\r\nHost: {here}@evil.example\r\n")),
            (
                "a forwarded host",
                format!("GET /api/v1/jobs HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: {here}\r\n"),
            ),
        ];
        for (name, head) in heads {
            let request = format!("{head}Authorization: Bearer {token}\r\nConnection: close\r\n\r\n");
            let answer = exchange(&here, &request).await?;
            let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
            // 404 of a service without that route is an answer to a foreign host, too.
            let refused = answer.is_empty() || ["403", "421"].contains(&status.as_str());
            door.attempt((!refused).then(|| format!("{service} with {name}: {status}")));
        }
    }
    Ok(door)
}

async fn exchange(address: &str, request: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER);
    // A reset connection is a refusal as well.
    let _ = tokio::time::timeout(Duration::from_secs(10), { read }.read_to_end(&mut answer)).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// No answer invites another site's scripts.
async fn preflights(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("web page: preflights and cross-origin reads");
    for (service, method, path, _) in routes() {
        for asked in [Method::OPTIONS, Method::GET] {
            let request = platform
                .as_admin(asked.clone(), service, path)
                .header("origin", EVIL)
                .header("access-control-request-method", method.as_str())
                .header("access-control-request-headers", "authorization,content-type");
            let answer = request.send().await?;
            let allowed = answer.headers().get("access-control-allow-origin").cloned();
            door.attempt(
                allowed.map(|origin| format!("{asked} {service} {path} allows the origin {origin:?}")),
            );
        }
    }
    Ok(door)
}

/// What the page is after: a command run as the owner.
async fn job(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("web page: a command run by the launcher");
    let marker = platform.data_dir.with_extension("marker");
    let _ = std::fs::remove_file(&marker);
    let body = json!({"name": "page", "command": ["touch", marker]});
    for (_, disguise) in disguises() {
        disguise(platform.as_admin(Method::POST, "launcher", "/api/v1/jobs"), &body).send().await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let jobs: Value = platform.as_admin(Method::GET, "launcher", "/api/v1/jobs").send().await?.json().await?;
    let made = jobs["jobs"].as_array().map_or(0, Vec::len);
    door.attempt((marker.exists() || made > 0).then(|| format!("{made} jobs were made: {jobs}")));
    Ok(door)
}
