//! A tenant's token at the services other than the registry, and doors that only look closed: paths and
//! headers that one part of a service reads in another way than the next.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Door;
use super::platform::{Platform, SERVICES};
use super::tenant::tenant;

const JOBS: &str = "/api/v1/jobs";

pub(super) async fn doors(platform: &Platform) -> anyhow::Result<Vec<Door>> {
    Ok(vec![jobs(platform).await?, spellings(platform).await?, impersonation(platform).await?])
}

async fn experiment(platform: &Platform, name: &str) -> anyhow::Result<String> {
    let path = "/api/2.0/mlflow/experiments/create";
    let made = platform.done(Method::POST, path, &json!({"name": name})).await?;
    Ok(made["experiment_id"].as_str().unwrap_or_default().to_owned())
}

async fn submit(platform: &Platform, experiment: Option<&str>) -> anyhow::Result<String> {
    let mut job = json!({"name": "attacked", "command": ["sleep", "600"], "grace_period_s": 0,
        "resources": {"cpus": 0.1}, "env": {"PASSWORD": "of-the-job"}});
    if let Some(experiment) = experiment {
        job["experiment_id"] = json!(experiment);
    }
    let answer = platform.as_admin(Method::POST, "launcher", JOBS).json(&job).send().await?;
    let made: Value = answer.error_for_status()?.json().await?;
    Ok(made["id"].as_str().unwrap_or_default().to_owned())
}

/// Jobs of another tenant and of nobody, by every route and in lists.
async fn jobs(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("tenant: another tenant's jobs, logs and checkpoints");
    let (ours, theirs) =
        (experiment(platform, "attack-jobs-ours").await?, experiment(platform, "attack-jobs-theirs").await?);
    let token = tenant(platform, "attack-jobs", "editor", &format!("experiment:{ours}")).await?;
    let own = submit(platform, Some(&ours)).await?;
    let hidden = [submit(platform, Some(&theirs)).await?, submit(platform, None).await?];
    let ask = |method: Method, path: &str| platform.as_bearer(&token, method, "launcher", path);
    // Once the token has arrived at the launcher, the tenant's own job is shown.
    while !ask(Method::GET, &format!("{JOBS}/{own}")).send().await?.status().is_success() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let routes = [
        (Method::GET, ""),
        (Method::GET, "/logs"),
        (Method::GET, "/logs?follow=true"),
        (Method::GET, "/checkpoints"),
        (Method::GET, "/checkpoints/1"),
        (Method::DELETE, "/checkpoints/1"),
        (Method::POST, "/cancel"),
    ];
    for job in &hidden {
        for (method, route) in &routes {
            let spelled = [job.clone(), job.to_uppercase(), job.replace('-', ""), format!("%7B{job}%7D")];
            for id in spelled {
                let path = format!("{JOBS}/{id}{route}");
                let status = ask(method.clone(), &path).send().await?.status();
                let refused = matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
                door.attempt((!refused).then(|| format!("{method} {path}: {status}")));
            }
        }
    }
    for query in ["", "?limit=1000", "?status=running", "?status=queued", "?experiment_id=*", "?limit=1"] {
        let text = ask(Method::GET, &format!("{JOBS}{query}")).send().await?.text().await?;
        let shown = hidden.iter().any(|job| text.contains(job.as_str()));
        door.attempt(shown.then(|| format!("GET {JOBS}{query} shows another tenant's job")));
    }
    let job = json!({"name": "attack", "command": ["true"], "experiment_id": ours});
    for path in [JOBS, "/api/v1/capacity"] {
        let method = if path == JOBS { Method::POST } else { Method::GET };
        let status = ask(method.clone(), path).json(&job).send().await?.status();
        door.attempt((status != StatusCode::FORBIDDEN).then(|| format!("{method} {path}: {status}")));
    }
    Ok(door)
}

/// Routes of each service that have data, and what they are spelled like.
async fn spellings(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("network: paths and methods that look like others, without a token");
    let routes = [
        ("registry", "/api/v1/models"),
        ("registry", "/api/2.0/mlflow/experiments/search"),
        ("launcher", JOBS),
        ("rollout_controller", "/api/v1/deployments"),
        ("drift_monitor", "/api/v1/monitors"),
        ("serving_http", "/v2/models"),
    ];
    for (service, path) in routes {
        let (first, last) = path.rsplit_once('/').unwrap_or_default();
        let encoded = format!("{first}/%{:02X}{}", last.as_bytes()[0], &last[1..]);
        let spelled = [
            format!("/{path}"),
            format!("{path}/"),
            format!("{first}//{last}"),
            format!("{first}/./{last}"),
            format!("/healthz/..{path}"),
            format!("/healthz%2F..{path}"),
            format!("/metrics;{path}"),
            path.to_uppercase(),
            encoded,
            format!("{path};a=b"),
            format!("{path}%00"),
            format!("{path}%20"),
            format!("{path}?authorization=Bearer%20{}", platform.admin_token),
            format!("{path}?access_token={}", platform.admin_token),
        ];
        for path in spelled {
            // As it is: a client would resolve dots.
            let (address, http) = (platform.address(service), &platform.http);
            for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
                let url = format!("{address}{path}");
                let request = http.request(method.clone(), url).header("x-http-method-override", "GET");
                let Ok(answer) = request.send().await else { continue };
                let status = answer.status();
                let text = answer.text().await?;
                let has_data = status.is_success() && text.len() > 2;
                door.attempt(has_data.then(|| format!("{service} {method} {path}: {status} {text}")));
            }
        }
    }
    Ok(door)
}

/// Headers by which proxies name a caller; nothing in front of these services does.
async fn impersonation(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("tenant: headers that name another caller");
    let token = tenant(platform, "attack-nobody", "viewer", "model:attack-none").await?;
    let headers = [
        ("x-forwarded-user", "admin"),
        ("x-remote-user", "admin"),
        ("x-auth-request-user", "admin"),
        ("x-forwarded-groups", "admins"),
        ("x-slipway-actor", "admin"),
        ("x-slipway-principal", "admin"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-original-url", "/healthz"),
        ("x-rewrite-url", "/healthz"),
        ("x-forwarded-authorization", "Bearer admin"),
        ("proxy-authorization", "Bearer admin"),
        ("cookie", "token=admin"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let lists = ["/api/v1/grants", JOBS, "/api/v1/deployments", "/api/v1/monitors", "/v2/logging"];
    for (service, path) in SERVICES.into_iter().zip(lists) {
        for (name, value) in headers {
            // What an administrator alone may, and what nobody may without a token.
            let changes = platform.as_bearer(&token, Method::POST, service, path).header(name, value);
            let answer = changes.json(&json!({"log_info": false})).send().await?;
            door.attempt(is_open(&answer).then(|| format!("{service} POST {path} with {name}")));
            let bare = platform.http.get(format!("{}{path}", platform.address(service)));
            let answer = bare.header(name, value).send().await?;
            let open = is_open(&answer);
            door.attempt(open.then(|| format!("{service} GET {path} without a token, with {name}")));
        }
    }
    Ok(door)
}

/// Whether a request was handled. A refusal over gRPC has the status 200, and its code in a header.
fn is_open(answer: &Response) -> bool {
    let is_grpc_refusal = answer.headers().get("grpc-status").is_some_and(|code| code != "0");
    answer.status().is_success() && !is_grpc_refusal
}
