//! Commands that run, fail, do not exist, take too long, or are cancelled.

use serde_json::json;

use crate::processes;
use crate::world::{JOB_TOKEN, REGISTRY_URL, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_with_its_files_and_environment_and_without_our_secrets() {
    let world = World::begin().await;
    let script = "cat data/in.txt; echo to-stderr >&2; echo $GREETING $SLIPWAY_ATTEMPT $MLFLOW_TRACKING_URI \
                  $MLFLOW_TRACKING_TOKEN; \
                  env | grep -c -e SLIPWAY_.*TOKEN -e SLIPWAY_S3 -e SLIPWAY_POSTGRES";
    let job = world
        .submit_script(script, json!({
            "files": {"data/in.txt": "a file\n"}, "env": {"GREETING": "hello"}, "labels": {"team": "vision"},
        }))
        .await;
    // grep -c prints 0 and exits with 1 where it finds nothing.
    let ended = world.ended(&job, "failed").await;
    assert_eq!(
        world.log(&job, "").await,
        format!("a file\nto-stderr\nhello 1 {REGISTRY_URL} {JOB_TOKEN}\n0\n")
    );
    assert_eq!(ended["labels"]["team"], "vision");
    assert_eq!(ended["attempts"][0]["exit_code"], 1);

    let job = world.submit_script("setsid sleep 300 & echo done", json!({"name": "right"})).await;
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!(ended["name"], "right");
    assert_eq!(ended["attempt"], 1);
    assert_eq!(ended["reason"], "");
    assert_eq!(ended["attempts"][0]["exit_code"], 0);
    assert!(ended["finished_at"].is_string());
    assert_eq!(world.events(&job, 3).await, ["submitted", "started", "succeeded"]);
    world.wait_for_no_process(&job).await;
    assert!(!world.data_dir.join("work").join(&job).exists(), "the work folder of a success is removed");
    assert_eq!(world.log(&job, "follow=true").await, "done\n", "the log is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_while_the_job_runs() {
    let world = World::begin().await;
    let gate = world.data_dir.join("gate");
    let script = "echo one; while [ ! -e $GATE ]; do sleep 0.05; done; echo two; exit 4";
    let retries = json!({"limit": 1, "backoff_initial_ms": 50, "backoff_max_ms": 50});
    let job = world.submit_script(script, json!({"env": {"GATE": gate}, "retries": retries})).await;
    let path = format!("/api/v1/jobs/{job}/logs?follow=true");
    let mut stream = world.request(reqwest::Method::GET, &path, String::new()).await;
    let mut seen = String::new();
    while !seen.contains("one\n") {
        seen.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert_eq!(seen, "one\n");
    assert_eq!(world.job(&job).await["status"], "running");
    std::fs::write(&gate, "").unwrap();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert_eq!(
        seen, "one\ntwo\n==> attempt 2 <==\none\ntwo\n",
        "it goes on through the retry and ends with the job"
    );
    assert_eq!(world.log(&job, "attempt=2&follow=true").await, "one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_command_is_retried_with_backoff_and_then_given_up() {
    let world = World::begin().await;
    let retries = json!({"limit": 2, "backoff_initial_ms": 400, "backoff_max_ms": 2_000});
    let job = world.submit_script("echo try $SLIPWAY_ATTEMPT; exit 3", json!({"retries": retries})).await;
    let waiting = world.wait(&job, "a backoff", |job| job["status"] == "retrying").await;
    assert!(waiting["retry_at"].is_string(), "{waiting}");
    assert!(waiting["reason"].as_str().unwrap().contains("exit code 3; retry 1 of 2 follows"), "{waiting}");
    let ended = world.ended(&job, "failed").await;
    assert_eq!(ended["reason"], "attempt 3: exit code 3; its retries are used up");
    assert_eq!(
        (&ended["attempt"], &ended["failures"], &ended["disruptions"]),
        (&json!(3), &json!(3), &json!(0))
    );
    let codes: Vec<_> =
        ended["attempts"].as_array().unwrap().iter().map(|one| one["exit_code"].clone()).collect();
    assert_eq!(codes, [3, 3, 3]);
    assert_eq!(world.log(&job, "").await, "try 1\n==> attempt 2 <==\ntry 2\n==> attempt 3 <==\ntry 3\n");
    assert_eq!(world.log(&job, "attempt=2").await, "try 2\n");
    let expected = ["submitted", "started", "retrying", "started", "retrying", "started", "failed"];
    assert_eq!(world.events(&job, 7).await, expected);
    world.wait_for_no_process(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_run_is_named_and_not_tried_again() {
    let world = World::begin().await;
    let retries = json!({"limit": 5, "backoff_initial_ms": 10, "backoff_max_ms": 10});
    let files = json!({"plain.txt": "no program"});
    let uid = nix::unistd::geteuid();
    let not_executable = format!(
        "the command did not start: `./plain.txt` is not executable by uid {uid} (see the permissions of the \
         file and of the folders above it)"
    );
    for (command, reason) in [
        ("no-such-program", "the command did not start: command not found: no-such-program"),
        ("/no/such/program", "the command did not start: command not found: /no/such/program"),
        ("./plain.txt", not_executable.as_str()),
    ] {
        let body = json!({"name": "wrong", "command": [command, "-x"], "retries": retries, "files": files});
        let job = world.submit(body).await;
        let ended = world.ended(&job, "failed").await;
        assert_eq!(ended["reason"], reason);
        assert_eq!(ended["attempt"], 1, "{ended}");
        assert!(world.log(&job, "").await.contains(command), "the log says it, too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_and_an_overrun_are_told_in_words() {
    let world = World::begin().await;
    let killed = world.submit_script("kill -SEGV $$", json!({})).await;
    let slow =
        world.submit_script("sleep 60 & sleep 60", json!({"timeout_s": 0.5, "grace_period_s": 0.2})).await;
    let killed = world.ended(&killed, "failed").await;
    assert_eq!(killed["reason"], "attempt 1: ended by signal 11; no retries were requested");
    assert_eq!(killed["attempts"][0]["signal"], 11);
    let ended = world.ended(&slow, "failed").await;
    assert_eq!(ended["reason"], "attempt 1 ran longer than the 0.5 s of timeout_s");
    assert!(world.log(&slow, "").await.contains("ran longer than 0.5 s: SIGTERM"));
    world.wait_for_no_process(&slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_a_whole_group_that_ignores_sigterm() {
    let world = World::begin().await;
    let script =
        "trap '' TERM; (trap '' TERM; while :; do sleep 0.1; done) & echo ready; while :; do sleep 0.1; done";
    let job = world.submit_script(script, json!({"grace_period_s": 0.3})).await;
    world.wait_for_log(&job, "ready").await;
    assert!(processes::of_job(&job).len() >= 3, "agent, command, child");
    assert_eq!(world.cancel(&job).await["status"], "cancelling");
    let ended = world.ended(&job, "cancelled").await;
    assert_eq!(ended["reason"], "cancelled");
    assert_eq!(ended["attempts"][0]["signal"], 9);
    let log = world.log(&job, "").await;
    assert!(log.contains("the job is cancelled or suspended: SIGTERM, and SIGKILL after 0.3 s"), "{log}");
    assert!(log.contains("the grace period is over: SIGKILL"), "{log}");
    world.wait_for_no_process(&job).await;
    assert_eq!(world.cancel(&job).await["status"], "cancelled", "cancelling again changes nothing");
    assert_eq!(world.events(&job, 3).await, ["submitted", "started", "cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_lets_a_command_end_by_itself_and_stops_what_waits() {
    let world = World::begin().await;
    let polite = "trap 'echo saving; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let all = json!({"resources": {"cpus": 8}, "grace_period_s": 20});
    let running = world.submit_script(polite, all.clone()).await;
    world.wait_for_log(&running, "ready").await;
    let waiting = world.submit_script("echo never", all).await;
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert_eq!(world.job(&waiting).await["status"], "queued", "the machine is full");
    assert_eq!(world.cancel(&waiting).await["status"], "cancelled");
    world.cancel(&running).await;
    let ended = world.ended(&running, "cancelled").await;
    assert_eq!(ended["attempts"][0]["exit_code"], 0);
    assert!(world.log(&running, "").await.contains("saving\n"));
    assert_eq!(world.log(&waiting, "").await, "");
}
