//! Fault drills that a ModelDeployment asks for.

use serde_json::{Value, json};

use crate::rollouts::{MODEL, answers};
use crate::world::{World, manifest, on_a_cluster};

/// Two pods, whose copies of requests meet the fault, and an analysis that gives its verdict early.
fn drilled(fault_replay: Option<&Value>) -> Value {
    let mut further = json!({"replicas": {"min": 2, "max": 2}, "strategy": {
        "steps": [{"weightPercent": 50, "holdSeconds": 600.0}],
        "analysis": {"minRequests": 5, "maxP95LatencyRatio": 50.0, "intervalMilliseconds": 200},
    }});
    if let Some(fault_replay) = fault_replay {
        further["faultReplay"] = fault_replay.clone();
    }
    further
}

/// Waits until the status begins with this.
async fn shows(world: &World, beginning: &str) -> String {
    let begins = async || {
        let status = world.found("md/fraud");
        let text = status["status"]["faultReplay"].as_str()?;
        text.starts_with(beginning).then(|| text.to_owned())
    };
    world.eventually(&format!("status.faultReplay begins with `{beginning}`"), begins).await
}

#[test]
fn a_drill_of_the_spec_fails_copies_in_every_pod_and_no_request_of_a_user() {
    on_a_cluster(async |world| {
        for fixture in ["right-1.onnx", "right-2.onnx"] {
            world.client.register(MODEL, fixture).await;
        }
        world.apply(&manifest(json!({"version": "1"}), &drilled(None)));
        world.wait("condition=Ready");
        answers(&world, "1").await;
        let pods = world.objects("pods");
        let traffic = world.service().traffic("fraud");

        // The same field starts it once.
        let errors = json!({"fault": "errors", "percent": 50, "seconds": 20});
        world.apply(&manifest(json!({"version": "1"}), &drilled(Some(&errors))));
        shows(&world, "running").await;
        let text = shows(&world, "completed: the analysis fails this version after").await;
        assert!(text.contains("error_rate"), "{text}");
        let deployment = format!("{}_fraud", world.namespace.name());
        let url = format!("{}/api/v1/deployments/{deployment}/drill", world.client.controller);
        let report = world.client.get(&url).await;
        assert_eq!((&report["phase"], &report["verdict"]), (&json!("completed"), &json!("fail")), "{report}");
        assert!(report["rehearsed"]["requests"].as_u64().unwrap() > 50, "{report}");
        assert_eq!(report["users"]["failed"], json!([]), "{report}");

        // Removing the field stops it, and a rollout ends it.
        let latency = json!({"fault": "latency", "latencyMilliseconds": 300, "seconds": 600});
        world.apply(&manifest(json!({"version": "1"}), &drilled(Some(&latency))));
        shows(&world, "running").await;
        world.apply(&manifest(json!({"version": "1"}), &drilled(None)));
        let text = shows(&world, "stopped").await;
        assert!(text.contains("spec.faultReplay of the ModelDeployment has changed"), "{text}");
        world.apply(&manifest(json!({"version": "1"}), &drilled(Some(&latency))));
        shows(&world, "running").await;
        world.apply(&manifest(json!({"version": "2"}), &drilled(Some(&latency))));
        let text = shows(&world, "interrupted").await;
        assert!(text.contains("a rollout began"), "{text}");

        assert_eq!(traffic.stop().await, [""; 0], "no user met a fault");
        assert_eq!(world.objects("pods"), pods, "no pod was replaced");
    });
}

#[test]
fn users_meet_a_fault_only_if_that_is_said_twice() {
    on_a_cluster(async |world| {
        world.client.register(MODEL, "right-1.onnx").await;
        let mut fault = json!({"fault": "errors", "target": "answers", "percent": 100, "seconds": 600,
            "confirm": "fraud"});
        world.apply(&manifest(json!({"version": "1"}), &drilled(Some(&fault))));
        world.wait("condition=Degraded");
        let conditions = world.found("md/fraud")["status"]["conditions"].to_string();
        assert!(conditions.contains("spec.faultReplay.confirm"), "{conditions}");

        fault["confirm"] = json!(format!("{}_fraud", world.namespace.name()));
        world.apply(&manifest(json!({"version": "1"}), &drilled(Some(&fault))));
        world.wait("condition=Ready");
        shows(&world, "running").await;
        let service = world.service();
        let fails = async || service.predict("fraud", 1.0, "ask").await.is_err().then_some(());
        world.eventually("a request of a user fails", fails).await;
        world.apply(&manifest(json!({"version": "1"}), &drilled(None)));
        answers(&world, "1").await;
        shows(&world, "stopped").await;
    });
}
