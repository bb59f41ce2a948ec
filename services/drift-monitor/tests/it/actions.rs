//! What drift makes the monitor do, once.

use serde_json::{Value, json};
use tonic::Status;

use crate::data::{DEPLOYMENT, Rows};
use crate::world::{MOMENT, World};

fn retrain() -> Value {
    json!([{"action": "submit-job", "job": {"name": "retrain", "command": ["python", "train.py"],
        "env": {"WHY": "{{monitor}} {{windows}}"}}}])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_is_submitted_though_the_launcher_is_away_and_the_monitor_dies_twice() {
    let mut world = World::with_baseline().await;
    world.monitor(json!({"on_drift": retrain()})).await;
    world.predict(&Rows::shifted(1).take(200)).await;
    world.state("drifted").await;
    let waiting = world
        .until("a failed attempt", async || {
            world.actions().await.pop().filter(|action| action["last_error"].is_string())
        })
        .await;
    assert_eq!(waiting["status"], "pending", "{waiting}");
    world.kill();
    world.start().await;
    world.peers.start_launcher().await;
    let done = async |world: &World| {
        world
            .until("the job", async || {
                world.actions().await.pop().filter(|action| action["status"] == "done")
            })
            .await
    };
    let action = done(&world).await;
    assert_eq!((&action["action"], &action["result"]["job_id"]), (&json!("submit-job"), &json!("job-1")));
    assert!(action["attempts"].as_i64().unwrap() >= 2, "{action}");
    assert_eq!(action["last_error"], Value::Null);
    world.kill();
    world.start().await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(world.actions().await.len(), 1);
    let told = world.events("slipway.drift-monitor.drift.detected", 1).await;
    assert_eq!(told.len(), 1);
    let known = world.peers.known();
    assert_eq!((known.jobs.len(), known.submissions.len()), (1, 1));
    let spec: Value = serde_json::from_str(&known.submissions[0].spec_json).unwrap();
    assert_eq!(spec["command"], json!(["python", "train.py"]));
    assert_eq!((&spec["env"]["WHY"], &spec["env"]["DRIFT_EVENT_ID"]), (&json!("m 1,2"), &json!(told[0].id)));
    assert!(known.submissions[0].idempotency_key.contains(&told[0].id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_answer_was_lost_is_asked_for_under_the_same_key() {
    let world = World::with_baseline().await;
    world.peers.start_launcher().await;
    world.peers.known().refusal = Some(Status::unavailable("restarting"));
    world.monitor(json!({"on_drift": retrain()})).await;
    world.predict(&Rows::shifted(2).take(200)).await;
    world.until("two attempts", async || (world.peers.known().submissions.len() >= 2).then_some(())).await;
    world.peers.known().refusal = None;
    world
        .until("the job", async || world.actions().await.pop().filter(|action| action["status"] == "done"))
        .await;
    let known = world.peers.known();
    let first = &known.submissions[0].idempotency_key;
    assert!(known.submissions.iter().all(|submission| &submission.idempotency_key == first));
    assert_eq!(known.jobs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_paused_and_a_refused_job_is_given_up_with_the_reason() {
    let world = World::with_baseline().await;
    world.peers.start_launcher().await;
    world.peers.known().refusal = Some(Status::invalid_argument("`command[0]`: there is no python here"));
    let mut actions = retrain();
    actions.as_array_mut().unwrap().insert(0, json!({"action": "pause-rollout"}));
    world.monitor(json!({"on_drift": actions})).await;
    world.predict(&Rows::shifted(3).take(200)).await;
    let actions = world
        .until("both actions", async || {
            let actions = world.actions().await;
            let ended = actions.iter().filter(|action| action["status"] != "pending").count();
            (ended == 2).then_some(actions)
        })
        .await;
    assert_eq!((&actions[0]["action"], &actions[0]["status"]), (&json!("submit-job"), &json!("failed")));
    assert!(actions[0]["last_error"].as_str().unwrap().contains("there is no python here"), "{actions:?}");
    assert_eq!((&actions[1]["action"], &actions[1]["status"]), (&json!("pause-rollout"), &json!("done")));
    assert_eq!(actions[1]["result"]["rollout_id"], "rollout-1");
    tokio::time::sleep(MOMENT).await;
    let known = world.peers.known();
    assert_eq!((known.submissions.len(), known.pauses.len()), (1, 1));
    assert_eq!(known.pauses[0].deployment, DEPLOYMENT);
    assert!(known.pauses[0].reason.contains("windows 1,2"), "{:?}", known.pauses);
}
