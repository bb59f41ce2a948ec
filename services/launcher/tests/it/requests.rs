//! What clients ask: submissions that are repeated or wrong, lists, gRPC, and agents that may no longer
//! speak.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::proto::launcher::agents_client::AgentsClient;
use slipway_api::proto::launcher::launcher_client::LauncherClient;
use slipway_api::proto::launcher::{
    CancelJobRequest, FinishAttemptRequest, GetJobRequest, HeartbeatRequest, ListJobsRequest,
    SubmitJobRequest,
};
use tonic::Code;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_is_repeated_is_one_job() {
    let world = World::begin().await;
    let body = json!({"name": "once", "command": ["true"]});
    let answers = futures::future::join_all((0..8).map(|_| world.try_submit(Some("key-1"), &body))).await;
    let created = answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count();
    assert_eq!(created, 1, "{answers:?}");
    assert!(answers.iter().all(|(status, job)| status.is_success() && job["id"] == answers[0].1["id"]));
    let mut with_field = body.clone();
    with_field["idempotency_key"] = "key-1".into();
    let (status, again) = world.try_submit(None, &with_field).await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &answers[0].1["id"]), "the field is the header");
    let (status, other) =
        world.try_submit(Some("key-1"), &json!({"name": "other", "command": ["true"]})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(other["detail"].as_str().unwrap().contains("idempotency_key"), "{other}");
    assert_eq!(world.get("/api/v1/jobs").await["jobs"].as_array().unwrap().len(), 1);
    let id = answers[0].1["id"].as_str().unwrap();
    world.ended(id, "succeeded").await;
    assert_eq!(world.events(id, 3).await, ["submitted", "started", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_job_is_named() {
    let world = World::begin().await;
    let wrong = [
        (json!({"command": []}), "command"),
        (json!({"command": [""]}), "command[0]"),
        (json!({"command": "python train.py"}), "command"),
        (json!({"name": ""}), "name"),
        (json!({"name": "a\u{0}b"}), "name"),
        (json!({"env": {"SLIPWAY_ATTEMPT": "7"}}), "env.SLIPWAY_ATTEMPT"),
        (json!({"env": {"A": 1}}), "env.A"),
        (json!({"files": {"../../etc/passwd": "x"}}), "files[\"../../etc/passwd\"]"),
        (json!({"files": {"/etc/passwd": "x"}}), "files[\"/etc/passwd\"]"),
        (json!({"resources": {"cpus": 0}}), "resources.cpus"),
        (json!({"retries": {"limit": -1}}), "retries.limit"),
        (
            json!({"retries": {"limit": 1, "backoff_initial_ms": 9, "backoff_max_ms": 1}}),
            "retries.backoff_initial_ms",
        ),
        (json!({"checkpoint": {"dir": "../out"}}), "checkpoint.dir"),
        (json!({"checkpoint": {"keep": 0}}), "checkpoint.keep"),
        (json!({"timeout_s": 0}), "timeout_s"),
        (json!({"grace_period_s": -1}), "grace_period_s"),
        (json!({"idempotency_key": ""}), "idempotency_key"),
    ];
    for (change, field) in wrong {
        let mut body = json!({"name": "wrong", "command": ["true"]});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, problem) = world.try_submit(None, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {problem}");
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
    for (body, text) in [
        ("{\"name\": \"x\"}", "command"),
        ("{\"name\": \"x\", \"command\": [\"true\"], \"retires\": 1}", "retires"),
        ("{\"name\": ", "EOF"),
    ] {
        let response = world.request(Method::POST, "/api/v1/jobs", body.to_owned()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Value = response.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(text), "{problem}");
    }
    let large = json!({"name": "x", "command": ["true"], "files": {"a": "x".repeat(9_000_000)}});
    let (status, problem) = world.try_submit(None, &large).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("files")), "{problem}");
    let oversized = world.request(Method::POST, "/api/v1/jobs", "x".repeat(33 * 1024 * 1024)).await;
    assert_eq!(oversized.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(world.get("/api/v1/jobs").await["jobs"], json!([]), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() {
    let world = World::begin().await;
    let nobody = "01890000-0000-7000-8000-000000000000";
    for path in
        [nobody.to_owned(), "not-an-id".to_owned(), format!("{nobody}/logs"), format!("{nobody}/checkpoints")]
    {
        let response = world.request(Method::GET, &format!("/api/v1/jobs/{path}"), String::new()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "not-found");
    }
    let cancelled =
        world.request(Method::POST, &format!("/api/v1/jobs/{nobody}/cancel"), String::new()).await;
    assert_eq!(cancelled.status(), StatusCode::NOT_FOUND);
    let job = world.submit(json!({"name": "x", "command": ["true"]})).await;
    world.ended(&job, "succeeded").await;
    let beyond =
        world.request(Method::GET, &format!("/api/v1/jobs/{job}/logs?attempt=2"), String::new()).await;
    assert_eq!(beyond.status(), StatusCode::NOT_FOUND);
    for (query, field) in
        [("status=asleep", "status"), ("limit=0", "limit"), ("page_token=rubbish", "page_token")]
    {
        let response = world.request(Method::GET, &format!("/api/v1/jobs?{query}"), String::new()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.json::<Value>().await.unwrap()["field"], field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_page_by_page_and_by_status() {
    let world = World::begin().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let command = if number == 2 { "false" } else { "true" };
        ids.push(world.submit(json!({"name": format!("job {number}"), "command": [command]})).await);
    }
    for (number, id) in ids.iter().enumerate() {
        world.ended(id, if number == 2 { "failed" } else { "succeeded" }).await;
    }
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = world.get(&format!("/api/v1/jobs?limit=2&page_token={token}")).await;
        let jobs = page["jobs"].as_array().unwrap();
        assert!(jobs.len() <= 2);
        seen.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next_page_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    ids.reverse();
    assert_eq!((seen, pages), (ids.clone(), 3), "newest first, each once");
    let failed = world.get("/api/v1/jobs?status=failed").await;
    let failed = failed["jobs"].as_array().unwrap();
    assert_eq!((failed.len(), &failed[0]["id"]), (1, &json!(ids[2])));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_services_ask_over_grpc() {
    let world = World::begin().await;
    let mut launcher = LauncherClient::connect(world.url.clone()).await.unwrap();
    let spec = json!({"name": "by grpc", "command": ["sh", "-c", "while :; do sleep 0.1; done"],
        "grace_period_s": 1});
    let submission = SubmitJobRequest { idempotency_key: "drift-1".into(), spec_json: spec.to_string() };
    let job = launcher.submit_job(submission.clone()).await.unwrap().into_inner();
    let again = launcher.submit_job(submission).await.unwrap().into_inner();
    assert_eq!(job.id, again.id, "the same key is the same job");
    world.wait(&job.id, "running", |job| job["status"] == "running").await;
    let found = launcher.get_job(GetJobRequest { id: job.id.clone() }).await.unwrap().into_inner();
    assert_eq!((found.status.as_str(), found.attempt, found.name.as_str()), ("running", 1, "by grpc"));
    let listed = launcher.list_jobs(ListJobsRequest { status: "running".into(), ..Default::default() }).await;
    assert_eq!(listed.unwrap().into_inner().jobs.len(), 1);
    launcher.cancel_job(CancelJobRequest { id: job.id.clone() }).await.unwrap();
    world.ended(&job.id, "cancelled").await;
    let wrong =
        SubmitJobRequest { spec_json: "{\"name\": \"x\", \"command\": []}".into(), ..Default::default() };
    let refused = launcher.submit_job(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("command"), "{refused}");
    let nobody = launcher.get_job(GetJobRequest { id: "nobody".into() }).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_current_attempts_token_may_speak() {
    let world = World::begin().await;
    let job = world.submit_script("while :; do sleep 0.1; done", json!({"grace_period_s": 0.1})).await;
    world.wait(&job, "running", |job| job["status"] == "running").await;
    let mut agents = AgentsClient::connect(world.url.clone()).await.unwrap();
    for attempt in [0, 1, 2] {
        let heartbeat =
            HeartbeatRequest { job_id: job.clone(), attempt, token: "guessed".into(), ..Default::default() };
        assert_eq!(agents.heartbeat(heartbeat).await.unwrap_err().code(), Code::FailedPrecondition);
        let report = FinishAttemptRequest {
            job_id: job.clone(),
            attempt,
            token: "guessed".into(),
            exit_code: Some(0),
            ..Default::default()
        };
        assert_eq!(agents.finish_attempt(report).await.unwrap_err().code(), Code::FailedPrecondition);
    }
    assert_eq!(world.job(&job).await["status"], "running");
    let metrics = world.request(Method::GET, "/metrics", String::new()).await.text().await.unwrap();
    assert!(metrics.contains("launcher_fenced_calls_total 6"), "{metrics}");
    world.cancel(&job).await;
    world.ended(&job, "cancelled").await;
}
