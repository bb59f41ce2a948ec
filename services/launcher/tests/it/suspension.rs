//! Suspending and resuming jobs, and what retries cost.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

/// Saves step 7 once and waits; goes on from it.
const SAVES: &str = "cd \"$SLIPWAY_CHECKPOINT_DIR\"; \
    if [ -z \"$SLIPWAY_RESTORED_STEP\" ]; then \
      echo weights > 7.tmp; mv 7.tmp 7; echo saved; sleep 300 & wait; \
    fi; echo goes on from $SLIPWAY_RESTORED_STEP with $(cat 7)";

async fn post(world: &World, job: &str, action: &str) -> (StatusCode, Value) {
    let path = format!("/api/v1/jobs/{job}/{action}");
    let response = world.request(Method::POST, &path, String::new()).await;
    (response.status(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_releases_what_it_had_and_goes_on_from_its_checkpoint() {
    let world = World::begin().await;
    let job = world
        .submit_script(SAVES, json!({"checkpoint": {}, "grace_period_s": 5, "resources": {"gpus": 2}}))
        .await;
    world.wait(&job, "a checkpoint", |job| job["checkpoint_step"] == 7).await;
    let waits = world.submit_script("true", json!({"resources": {"gpus": 1}})).await;
    assert_eq!(world.job(&waits).await["status"], "queued");

    let (status, suspending) = post(&world, &job, "suspend").await;
    assert_eq!((status, &suspending["status"]), (StatusCode::OK, &json!("suspending")), "{suspending}");
    let suspended = world.wait(&job, "suspended", |job| job["status"] == "suspended").await;
    assert_eq!(suspended["failures"], 0, "{suspended}");
    world.wait_for_no_process(&job).await;
    // Its GPUs are free for others.
    world.ended(&waits, "succeeded").await;
    let (_, again) = post(&world, &job, "suspend").await;
    assert_eq!(again["status"], "suspended");

    let (status, _) = post(&world, &job, "resume").await;
    assert_eq!(status, StatusCode::OK);
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!(world.log(&job, "attempt=2").await.lines().last(), Some("goes on from 7 with weights"));
    let attempts = ended["attempts"].as_array().unwrap();
    assert_eq!(attempts[0].get("lost_ms"), None, "{ended}");
    assert_eq!(attempts[1]["restored_step"], 7, "{ended}");
    // The time between the checkpoint and the suspension, and not the time in which it was suspended.
    let lost_ms = attempts[1]["lost_ms"].as_u64().unwrap();
    assert!(lost_ms > 0 && lost_ms < 60_000, "{ended}");
    assert_eq!(
        world.events(&job, 6).await,
        ["submitted", "started", "suspended", "resumed", "started", "succeeded"]
    );
    let (status, refused) = post(&world, &job, "resume").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(refused["detail"].as_str().unwrap().contains("is succeeded"), "{refused}");
    assert_eq!(post(&world, "none", "suspend").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_suspended_before_it_starts_waits_until_it_is_resumed() {
    let world = World::begin().await;
    let first = world.submit_script("sleep 300", json!({"resources": {"gpus": 2}})).await;
    world.wait(&first, "running", |job| job["status"] == "running").await;
    let second = world.submit_script("echo ran", json!({"resources": {"gpus": 1}})).await;
    assert_eq!(post(&world, &second, "suspend").await.1["status"], "suspended");
    let listed = world.get("/api/v1/jobs?status=suspended").await;
    assert_eq!(listed["jobs"][0]["id"], second.as_str(), "{listed}");
    world.cancel(&first).await;
    world.ended(&first, "cancelled").await;
    // A job that could start instead of it does.
    let third = world.submit_script("true", json!({"resources": {"gpus": 2}})).await;
    world.ended(&third, "succeeded").await;
    let still = world.job(&second).await;
    assert_eq!((&still["status"], &still["attempt"]), (&json!("suspended"), &json!(0)), "{still}");
    post(&world, &second, "resume").await;
    world.ended(&second, "succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lack_of_memory_is_answered_with_more_of_it_once() {
    let world = World::begin().await;
    let script = "python3 -c \"b = bytearray(150 << 20); b[::4096] = b'x' * len(b[::4096]); \
        import time; time.sleep(2)\"";
    let job = world
        .submit_script(
            script,
            json!({
                "resources": {"memory_bytes": 60 << 20},
                "retries": {"oom_memory_bytes": 400 << 20, "backoff_initial_ms": 50, "backoff_max_ms": 50},
            }),
        )
        .await;
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!(
        (&ended["attempt"], &ended["failures"], &ended["memory_bytes"]),
        (&json!(2), &json!(0), &json!(400 << 20)),
        "{ended}"
    );
    let reason = ended["attempts"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("out of memory") && reason.contains("another attempt with"), "{ended}");
    let body = json!({"name": "x", "command": ["true"], "retries": {"oom_memory_bytes": 5}});
    let (status, refused) = world.try_submit(None, &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(refused["detail"].as_str().unwrap().contains("retries.oom_memory_bytes"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_fails_is_not_the_commands_failure() {
    let world = World::begin().await;
    let script = "if [ $SLIPWAY_ATTEMPT = 1 ]; then \
        echo 'NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.'; exit 1; fi";
    let retries = json!({"backoff_initial_ms": 50, "backoff_max_ms": 50});
    let job = world.submit_script(script, json!({"retries": retries})).await;
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!((&ended["failures"], &ended["system_failures"]), (&json!(0), &json!(1)), "{ended}");
    let reason = ended["attempts"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("a GPU failed: NVRM: Xid (PCI:0000:3b:00): 79"), "{ended}");
}
