//! The launcher, its agents and Postgres end and come back in the middle of jobs.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::processes;
use crate::world::World;

/// Counts to 40 in 4 s; a second one at the same time would say so.
const COUNT: &str = "exec 9>$LOCK; flock -n 9 || echo TWICE; echo start >> $STARTS; \
                     i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; sleep 0.1; done";
/// As long as somebody waits, unless the file is there.
const UNTIL_GATE: &str = "exec 9>$LOCK; flock -n 9 || echo TWICE; echo start >> $STARTS; echo ready; \
                          while [ ! -e $GATE ]; do sleep 0.1; done";

fn counted() -> String {
    (1..=40).map(|number| format!("{number}\n")).collect()
}

fn marks(world: &World) -> Value {
    let file = |name: &str| world.data_dir.join(name);
    json!({
        "env": {"LOCK": file("lock"), "STARTS": file("starts"), "GATE": file("gate")},
        "retries": {"limit": 0, "backoff_initial_ms": 50, "backoff_max_ms": 50},
        "grace_period_s": 0.3,
    })
}

fn starts(world: &World) -> usize {
    std::fs::read_to_string(world.data_dir.join("starts")).unwrap().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_while_the_launcher_is_killed_and_started_again() {
    let world = World::begin().await;
    let job = world.submit_script(COUNT, marks(&world)).await;
    world.wait_for_log(&job, "5\n").await;
    world.kill_launcher();
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    world.start_launcher().await;
    world.wait_for_log(&job, "20\n").await;
    world.stop_launcher();
    world.start_launcher().await;
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!(ended["attempt"], 1, "{ended}");
    assert_eq!(world.log(&job, "").await, counted(), "no line is lost and none comes twice");
    assert_eq!(starts(&world), 1);
    assert_eq!(world.events(&job, 3).await, ["submitted", "started", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_while_the_launcher_is_away_is_reported_afterwards() {
    let world = World::begin().await;
    let job = world.submit_script(UNTIL_GATE, marks(&world)).await;
    world.wait_for_log(&job, "ready").await;
    world.kill_launcher();
    std::fs::write(world.data_dir.join("gate"), "").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    world.start_launcher().await;
    assert_eq!(world.ended(&job, "succeeded").await["attempt"], 1);
    assert_eq!(starts(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_of_everything_jobs_are_resumed_once() {
    let world = World::begin().await;
    let running = world.submit_script(UNTIL_GATE, marks(&world)).await;
    let big = json!({"resources": {"cpus": 8}});
    world.wait_for_log(&running, "ready").await;
    let waiting = world.submit_script("echo late", big).await;
    world.kill_launcher();
    processes::kill_all(&running);
    world.start_launcher().await;
    world.wait(&running, "a second attempt", |job| job["attempt"] == 2 && job["status"] == "running").await;
    std::fs::write(world.data_dir.join("gate"), "").unwrap();
    let ended = world.ended(&running, "succeeded").await;
    assert_eq!((&ended["attempt"], &ended["system_failures"]), (&json!(2), &json!(1)));
    assert_eq!(starts(&world), 2);
    assert!(!world.log(&running, "").await.contains("TWICE"));
    assert_eq!(world.ended(&waiting, "succeeded").await["attempt"], 1, "acknowledged jobs run");
    let expected = ["submitted", "started", "retrying", "started", "succeeded"];
    assert_eq!(world.events(&running, 5).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_whose_launcher_does_not_come_back_end_by_themselves() {
    let world = World::begin().await;
    let job = world.submit_script(UNTIL_GATE, marks(&world)).await;
    world.wait_for_log(&job, "ready").await;
    world.kill_launcher();
    world.wait_for_no_process(&job).await;
    std::fs::write(world.data_dir.join("gate"), "").unwrap();
    world.start_launcher().await;
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!(ended["attempt"], 2);
    assert!(!world.log(&job, "").await.contains("TWICE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_agent_leaves_running_ends_before_the_next_attempt() {
    let world = World::begin().await;
    let mut fields = marks(&world);
    // A session of its own, and the lock in hand: neither the agent's end nor its group's reaches it.
    let script =
        format!("setsid sh -c 'exec 9>$LOCK.child; flock -n 9 || echo TWICE; sleep 300' & {UNTIL_GATE}");
    fields["checkpoint"] = json!({});
    let job = world.submit_script(&script, fields).await;
    world.wait_for_log(&job, "ready").await;
    processes::signal_agent(&job, Signal::SIGKILL);
    world.wait(&job, "a second attempt", |job| job["attempt"] == 2).await;
    world.wait_for_log(&job, "==> attempt 2 <==\nready").await;
    std::fs::write(world.data_dir.join("gate"), "").unwrap();
    world.ended(&job, "succeeded").await;
    assert!(!world.log(&job, "").await.contains("TWICE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_falls_silent_is_replaced_when_its_lease_is_over() {
    let world = World::begin().await;
    let job = world.submit_script(UNTIL_GATE, marks(&world)).await;
    world.wait_for_log(&job, "ready").await;
    processes::signal_agent(&job, Signal::SIGSTOP);
    let ended = world.wait(&job, "a second attempt", |job| job["attempt"] == 2).await;
    let reason = ended["attempts"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("its agent did not report"), "{reason}");
    std::fs::write(world.data_dir.join("gate"), "").unwrap();
    world.ended(&job, "succeeded").await;
    assert!(!world.log(&job, "").await.contains("TWICE"), "the stopped agent's command was ended first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres_neither_loses_nor_repeats_anything() {
    let postgres = slipway_testkit::own_postgres().await;
    let world = World::on(&postgres.url).await;
    let job = world.submit_script(COUNT, marks(&world)).await;
    world.wait_for_log(&job, "5\n").await;
    postgres.kill().await;
    let (status, answer) = world.try_submit(None, &json!({"name": "a", "command": ["true"]})).await;
    assert_eq!((status.as_u16(), &answer["code"]), (503, &json!("unavailable")), "{answer}");
    postgres.start_again().await;
    world
        .eventually("the launcher recovers", async || {
            let path = format!("/api/v1/jobs/{job}");
            let response = world.request(reqwest::Method::GET, &path, String::new()).await;
            response.status().is_success().then_some(())
        })
        .await;
    assert_eq!(world.ended(&job, "succeeded").await["attempt"], 1);
    assert_eq!(world.log(&job, "").await, counted());
    assert_eq!(world.events(&job, 3).await, ["submitted", "started", "succeeded"]);
}

/// An attempt of a release that noted neither owners nor leases, and kept logs on its disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_an_earlier_release_goes_on() {
    let world = World::begin().await;
    let job = world.submit_script(UNTIL_GATE, marks(&world)).await;
    world.wait_for_log(&job, "ready").await;
    world.kill_launcher();
    world
        .execute(
            "UPDATE launcher.attempts SET backend = NULL, node = NULL, launcher = NULL, renewals = 0,
               lease_ms = NULL, lease_expires_at = NULL, log_bytes = NULL",
        )
        .await;
    std::fs::write(world.data_dir.join("logs").join(&job).join("1.log"), "ready\n").unwrap();
    world.start_launcher().await;
    let adopted = world
        .wait(&job, "its adoption", |job| {
            job["attempts"][0]["node"].is_string() && job["status"] == "running"
        })
        .await;
    assert_eq!(adopted["attempt"], 1);
    std::fs::write(world.data_dir.join("gate"), "").unwrap();
    let ended = world.ended(&job, "succeeded").await;
    assert_eq!((&ended["attempt"], &ended["disruptions"]), (&json!(1), &json!(0)), "{ended}");
    assert_eq!(world.log(&job, "").await, "ready\n");
    assert_eq!(starts(&world), 1);
}
