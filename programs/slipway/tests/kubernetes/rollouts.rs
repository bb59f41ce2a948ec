//! Which version answers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{World, manifest, on_a_cluster};

pub(crate) const MODEL: &str = "fraud-model";

/// Two steps that are held for half a second; verdicts come early.
pub(crate) fn steps() -> Value {
    json!({"strategy": {
        "steps": [{"weightPercent": 20, "holdSeconds": 0.5}, {"weightPercent": 50, "holdSeconds": 0.5}],
        "shadowPercent": 100,
        "analysis": {"minRequests": 5, "minLabels": 20, "maxAccuracyDrop": 0.05, "intervalMilliseconds": 200,
            "maxP95LatencyRatio": 50.0, "maxDivergence": 1.0, "maxInconclusiveSeconds": 120},
    }})
}

/// All traffic at once.
pub(crate) fn immediate() -> Value {
    json!({"strategy": {"steps": []}})
}

/// Waits until the Service answers by this version; how long that took.
pub(crate) async fn answers(world: &World, version: &str) -> Duration {
    let (client, started) = (world.service(), Instant::now());
    let answered = async || match client.predict("fraud", 1.0, "ask").await {
        Ok((answered, _)) if answered == version => Some(()),
        _ => None,
    };
    world.eventually(&format!("version {version} answers"), answered).await;
    started.elapsed()
}

#[test]
fn a_moved_alias_is_rolled_out_and_a_bad_version_is_rolled_back_without_a_failed_request() {
    on_a_cluster(async |world| {
        let client = &world.client;
        for fixture in ["right-1.onnx", "right-2.onnx", "wrong.onnx"] {
            client.register(MODEL, fixture).await;
        }
        client.set_alias(MODEL, "champion", "1").await;
        let applied = Instant::now();
        world.apply(&manifest(json!({"alias": "champion"}), &steps()));
        world.wait("condition=Ready");
        println!("apply to Ready: {:.1} s", applied.elapsed().as_secs_f64());
        // kube-proxy learns of the pod a moment later.
        answers(&world, "1").await;
        let service = world.service();
        assert_eq!(service.predict("fraud", 1.0, "first").await.unwrap(), ("1".to_owned(), 1));
        let url = format!("{}/v2/models/fraud", service.serving);
        assert_eq!(service.get(&url).await["name"], "fraud");

        let traffic = service.traffic("fraud");
        client.set_alias(MODEL, "champion", "2").await;
        world.wait("jsonpath={.status.stableVersion}=2");
        client.set_alias(MODEL, "champion", "3").await;
        world.wait("condition=Degraded");
        world.wait("condition=Overridden");
        let answered = traffic.answered();
        assert_eq!(traffic.stop().await, [""; 0], "of {answered} requests");
        assert!(answered > 50, "{answered}");
        let status = &world.found("md/fraud")["status"];
        assert_eq!((&status["stableVersion"], &status["rolloutPhase"]), (&json!("2"), &json!("rolled_back")));
        assert!(status["lastDecision"].as_str().is_some_and(|text| !text.is_empty()), "{status:#}");
        let table = world.kubectl(&["get", "md"]);
        let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(columns, ["NAME", "READY", "STABLE", "CANDIDATE", "WEIGHT", "PODS", "AGE"], "{table}");
    });
}

#[test]
fn the_manifest_before_returns_the_traffic() {
    on_a_cluster(async |world| {
        for fixture in ["right-1.onnx", "right-2.onnx"] {
            world.client.register(MODEL, fixture).await;
        }
        world.apply(&manifest(json!({"version": "1"}), &immediate()));
        world.wait("condition=Ready");
        answers(&world, "1").await;
        let traffic = world.service().traffic("fraud");
        world.apply(&manifest(json!({"version": "2"}), &immediate()));
        let forth = answers(&world, "2").await;
        world.wait("jsonpath={.status.stableVersion}=2");
        // A canary of the version before would take its steps; the one that is undone does not.
        world.apply(&manifest(json!({"version": "1"}), &steps()));
        let back = answers(&world, "1").await;
        println!("traffic to version 2 {:.2} s, back {:.2} s", forth.as_secs_f64(), back.as_secs_f64());
        assert_eq!(traffic.stop().await, [""; 0]);
        world.wait("jsonpath={.status.stableVersion}=1");
    });
}

#[test]
fn what_a_person_did_stays_until_the_spec_changes() {
    on_a_cluster(async |world| {
        for fixture in ["right-1.onnx", "right-2.onnx", "right-3.onnx"] {
            world.client.register(MODEL, fixture).await;
        }
        world.apply(&manifest(json!({"version": "1"}), &immediate()));
        world.wait("condition=Ready");
        world.apply(&manifest(json!({"version": "2"}), &immediate()));
        answers(&world, "2").await;
        world.wait("jsonpath={.status.rolloutPhase}=promoted");
        let deployment = format!("{}_fraud", world.namespace.name());
        let url = format!("{}/api/v1/deployments/{deployment}/rollback", world.client.controller);
        world.client.post(&url, json!({"reason": "a person said so"})).await;
        answers(&world, "1").await;
        world.wait("condition=Overridden");
        // The operator starts again, and an unrelated field changes nothing about it.
        world.kill_operator();
        world.start_operator().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(answers(&world, "1").await.as_secs(), 0);
        let overridden = world.found("md/fraud")["status"]["conditions"].to_string();
        assert!(overridden.contains("a person said so"), "{overridden}");
        world.apply(&manifest(json!({"version": "3"}), &immediate()));
        answers(&world, "3").await;
        world.wait("condition=Overridden=False");
    });
}
