//! Fault drills: who may start one, what the traffic table says, and how they end.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::proto::rollout::rollout_controller_client::RolloutControllerClient;
use slipway_api::proto::rollout::{GetDrillRequest, StartDrillRequest, StopDrillRequest};
use slipway_api::traffic::{DrillTarget, Fault};

use crate::world::{Controller, World};

const PATH: &str = "deployments/d/drill";

async fn start(world: &World, at: &Controller, request: Value) -> (StatusCode, Value) {
    world.try_call(at, Method::PUT, PATH, request).await
}

/// A field that is refused, and why.
async fn refused(world: &World, at: &Controller, request: Value) -> (String, String) {
    let (status, answer) = start(world, at, request).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    (text("field"), text("detail"))
}

#[tokio::test(flavor = "multi_thread")]
async fn users_meet_a_fault_only_if_that_is_said_twice_and_the_owner_is_told() {
    let (world, at) = World::deployed().await;
    let (field, detail) =
        refused(&world, &at, json!({"fault": "errors", "target": "answers", "percent": 5})).await;
    assert_eq!(field, "confirm");
    assert!(detail.contains("users' requests meet the fault") && detail.contains("`d`"), "{detail}");
    let other = json!({"fault": "errors", "target": "answers", "percent": 5, "confirm": "e"});
    assert_eq!(refused(&world, &at, other).await.0, "confirm");
    let (field, _) = refused(&world, &at, json!({"fault": "latency"})).await;
    assert_eq!(field, "latency_ms");
    assert_eq!(refused(&world, &at, json!({"fault": "errors", "seconds": 3_601})).await.0, "seconds");
    assert_eq!(world.table().await.unwrap().drill, None);

    let confirmed =
        json!({"fault": "errors", "target": "answers", "percent": 5, "confirm": "d", "seconds": 600});
    let (status, started) = start(&world, &at, confirmed.clone()).await;
    assert_eq!((status, &started["phase"]), (StatusCode::CREATED, &"running".into()), "{started}");
    let (status, again) = start(&world, &at, confirmed).await;
    assert_eq!(
        (status, &again["id"]),
        (StatusCode::OK, &started["id"]),
        "the same request is the same drill"
    );
    let (status, _) = start(&world, &at, json!({"fault": "errors"})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let in_table = world.table().await.unwrap().drill.unwrap();
    assert_eq!(
        (in_table.fault, in_table.target, in_table.percent),
        (Some(Fault::Errors), DrillTarget::Answers, 5)
    );
    let shown = world.get(&at, "deployments/d").await;
    assert_eq!(shown["drill"]["id"], started["id"]);
    assert_eq!(shown["notices"][0]["about"], "drill", "{shown}");

    let stopped = world.call(&at, Method::DELETE, PATH, Value::Null).await;
    assert_eq!((&stopped["phase"], &stopped["reason"]), (&"stopped".into(), &"stopped by a client".into()));
    let shown = world.get(&at, "deployments/d").await;
    assert_eq!(shown["notices"], json!([]), "{shown}");
    let told = world.deployment_events("drill-started").await;
    assert_eq!((told.len(), &told[0]["actor"]["name"]), (1, &"ann".into()), "{told:?}");
    assert!(told[0]["reason"].as_str().unwrap().contains("5 % of users' requests"), "{told:?}");
    assert_eq!(world.deployment_events("drill-ended").await.len(), 1);
    assert_eq!(world.table().await.unwrap().drill, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_at_its_time_and_for_what_needs_the_deployment() {
    let (world, at) = World::deployed().await;
    let ended = async |phase: &str| {
        world.deployment(&at, phase, |deployment| deployment["drill"]["phase"] == phase).await["drill"]
            .clone()
    };
    start(&world, &at, json!({"fault": "errors", "seconds": 1})).await;
    let completed = ended("completed").await;
    assert_eq!(completed["summary"], "no request was rehearsed in 1 s", "{completed}");
    assert_eq!(world.table().await.unwrap().drill, None);

    start(&world, &at, json!({"fault": "not-loading", "seconds": 600})).await;
    world.call(&at, Method::PUT, "deployments/d/kill-switch", json!({})).await;
    let killed = ended("interrupted").await;
    assert_eq!(killed["reason"], "the kill switch was activated", "{killed}");
    let (status, answer) = start(&world, &at, json!({"fault": "errors"})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    world.call(&at, Method::DELETE, "deployments/d/kill-switch", json!({})).await;

    let (status, _) = start(&world, &at, json!({"fault": "errors", "seconds": 600})).await;
    assert_eq!(status, StatusCode::CREATED);
    let held = json!({"steps": [{"weight_percent": 50, "hold_s": 600}], "analysis": {"min_requests": 0}});
    let body = json!({"version": "2", "strategy": held});
    world.call(&at, Method::POST, "deployments/d/rollouts", body).await;
    assert_eq!(ended("interrupted").await["reason"], "a rollout began");
    let (status, answer) = start(&world, &at, json!({"fault": "errors"})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("is in progress"), "{answer}");
    // The candidate follows once replicas have loaded it.
    let mut table = world.table().await.unwrap();
    for _ in 0..400 {
        assert_eq!(table.drill, None);
        if table.candidates.len() == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        table = world.table().await.unwrap();
    }
    panic!("no candidate receives traffic: {table:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_starts_one_drill_over_grpc_whatever_became_of_it() {
    let (_world, at) = World::deployed().await;
    let mut client = RolloutControllerClient::connect(at.url.clone()).await.unwrap();
    let request = |drill: Value| StartDrillRequest {
        deployment: "d".into(),
        drill_json: drill.to_string(),
        idempotency_key: "night".into(),
    };
    let drill = json!({"fault": "latency", "latency_ms": 300, "seconds": 600});
    let started = client.start_drill(request(drill.clone())).await.unwrap().into_inner();
    assert_eq!((started.phase.as_str(), started.version.as_str()), ("running", "1"));
    let stop = StopDrillRequest { deployment: "d".into(), reason: "enough".into() };
    let stopped = client.stop_drill(stop).await.unwrap().into_inner();
    assert_eq!(stopped.phase, "stopped");
    assert!(stopped.summary.ends_with("it ended early: enough"), "{}", stopped.summary);
    let again = client.start_drill(request(drill)).await.unwrap().into_inner();
    assert_eq!((again.id, again.phase.as_str()), (started.id, "stopped"));
    let status = client.start_drill(request(json!({"fault": "errors"}))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
    let newest = client.get_drill(GetDrillRequest { deployment: "d".into() }).await.unwrap().into_inner();
    let report: Value = serde_json::from_str(&newest.report_json).unwrap();
    assert_eq!(report["request"]["latency_ms"], 300);
}
