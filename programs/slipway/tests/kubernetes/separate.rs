//! Versions that have pods of their own.

use serde_json::{Value, json};

use crate::edge::{ROLE, install_gateway_api};
use crate::rollouts::{MODEL, answers};
use crate::world::{World, manifest, on_a_cluster};

/// A first step that is long enough to be looked at.
fn separate(steps: &Value) -> Value {
    json!({"placement": "separate",
        "route": {"gateways": [{"name": "public", "namespace": "edge"}], "hostnames": ["fraud.example.com"]},
        "strategy": {"steps": steps, "analysis": {"minRequests": 5, "maxP95LatencyRatio": 50.0,
            "intervalMilliseconds": 200, "maxInconclusiveSeconds": 120}}})
}

/// Which share of the traffic each Service is to receive.
fn shares(world: &World) -> Vec<(String, u64)> {
    let route = world.found("httproute/fraud");
    let backends = route["spec"]["rules"][0]["backendRefs"].as_array().unwrap();
    let share = |backend: &Value| Some((backend["name"].as_str()?.to_owned(), backend["weight"].as_u64()?));
    backends.iter().filter_map(share).collect()
}

async fn has_shares(world: &World, expected: &[(&str, u64)]) {
    let expected: Vec<(String, u64)> =
        expected.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
    let are_there = async || (shares(world) == expected).then_some(());
    world.eventually(&format!("the route has the shares {expected:?}"), are_there).await;
}

async fn has_deployments(world: &World, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|name| format!("deployment.apps/{name}")).collect();
    let are_there = async || (world.objects("deployments") == expected).then_some(());
    world.eventually(&format!("there are {expected:?}"), are_there).await;
}

#[test]
fn each_version_has_pods_of_its_own_and_the_route_splits_the_traffic() {
    on_a_cluster(async |mut world| {
        for fixture in ["right-1.onnx", "right-2.onnx", "right-3.onnx"] {
            world.client.register(MODEL, fixture).await;
        }
        tokio::task::block_in_place(install_gateway_api);
        world.allow("slipway-rollout-controller-edge", ROLE);
        world.set(&[]).await;
        let canary = json!([{"weightPercent": 20, "holdSeconds": 3.0}]);
        world.apply(&manifest(json!({"version": "1"}), &separate(&canary)));
        world.wait("condition=Ready");
        answers(&world, "1").await;
        has_deployments(&world, &["fraud-v1"]).await;
        has_shares(&world, &[("fraud-v1", 100)]).await;

        let stable = world.service().traffic("fraud");
        world.apply(&manifest(json!({"version": "2"}), &separate(&canary)));
        has_shares(&world, &[("fraud-v1", 80), ("fraud-v2", 20)]).await;
        has_deployments(&world, &["fraud-v1", "fraud-v2"]).await;
        // As a gateway does. kube-proxy learns of the pod a moment later.
        let through = world.service_called("fraud-v2");
        let answered = async || through.predict("fraud", 1.0, "ask").await.is_ok().then_some(());
        world.eventually("the candidate answers", answered).await;
        let candidate = through.traffic("fraud");
        assert_eq!(world.service().predict("fraud", 1.0, "one").await.unwrap().0, "1");
        assert_eq!(through.predict("fraud", 1.0, "two").await.unwrap().0, "2");
        let asked = through.http.get(format!("{}/v2/models/fraud", through.serving));
        let answer = asked.header("host", "fraud.example.com").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        world.wait("jsonpath={.status.stableVersion}=2");
        has_shares(&world, &[("fraud-v2", 100)]).await;
        assert_eq!((stable.stop().await, candidate.stop().await), (Vec::new(), Vec::new()));
        answers(&world, "2").await;

        // The version before stays for a rollback, until it is two versions ago.
        let traffic = world.service().traffic("fraud");
        has_deployments(&world, &["fraud-v1", "fraud-v2"]).await;
        world.apply(&manifest(json!({"version": "3"}), &separate(&json!([]))));
        answers(&world, "3").await;
        has_deployments(&world, &["fraud-v2", "fraud-v3"]).await;
        world.apply(&manifest(json!({"version": "2"}), &separate(&json!([]))));
        println!("back to the version before: {:.2} s", answers(&world, "2").await.as_secs_f64());
        assert_eq!(traffic.stop().await, [""; 0]);

        world.kubectl(&["delete", "md", "fraud", "--timeout=120s"]);
        let nothing = async || world.objects("deployments,services,httproutes").is_empty().then_some(());
        world.eventually("nothing is left", nothing).await;
    });
}

/// Pods of a version that are ready.
fn ready(world: &World, name: &str) -> u64 {
    world.found(&format!("deployment/{name}"))["status"]["readyReplicas"].as_u64().unwrap_or(0)
}

#[test]
fn no_version_receives_more_than_its_ready_pods_can_answer() {
    on_a_cluster(async |mut world| {
        for fixture in ["right-1.onnx", "right-2.onnx"] {
            world.client.register(MODEL, fixture).await;
        }
        tokio::task::block_in_place(install_gateway_api);
        world.allow("slipway-rollout-controller-edge", ROLE);
        world.set(&[]).await;
        let mut further = separate(&json!([]));
        further["replicas"] = json!({"min": 1, "max": 3});
        world.apply(&manifest(json!({"version": "1"}), &further));
        world.wait("condition=Ready");
        has_shares(&world, &[("fraud-v1", 100)]).await;
        // As the autoscaler does under load.
        world.kubectl(&["scale", "deployment", "fraud-v1", "--replicas=3"]);
        let scaled = async || (ready(&world, "fraud-v1") == 3).then_some(());
        world.eventually("version 1 has three pods", scaled).await;

        let stable = world.service().traffic("fraud");
        world.apply(&manifest(json!({"version": "2"}), &further));
        let moved = async || {
            let shares = shares(&world);
            let of = |name: &str| shares.iter().find(|share| share.0 == name).map_or(0, |share| share.1);
            // Read after its share: there may be more pods by now, and not fewer.
            let pods = if of("fraud-v2") == 0 { 0 } else { ready(&world, "fraud-v2") };
            assert!(of("fraud-v2") <= 100 * pods / 3, "{shares:?} with {pods} of 3 pods");
            assert_eq!(of("fraud-v1") + of("fraud-v2"), 100, "{shares:?}");
            (of("fraud-v2") == 100).then_some(())
        };
        world.eventually("version 2 has all of the traffic", moved).await;
        assert_eq!(ready(&world, "fraud-v2"), 3);
        let traffic = async || {
            let traffic = world.found("md/fraud")["status"]["traffic"].clone();
            (traffic == json!([{"version": "2", "percent": 100}])).then_some(())
        };
        world.eventually("the status shows the share", traffic).await;
        answers(&world, "2").await;
        // A pod that goes does not lead users back to the version before.
        world.kubectl(&["delete", "pod", &first_pod(&world, "fraud-v2"), "--wait=false"]);
        let came_back = async || {
            assert_eq!(shares(&world), [("fraud-v2".to_owned(), 100)]);
            (ready(&world, "fraud-v2") == 3).then_some(())
        };
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        world.eventually("the pod is replaced", came_back).await;
        assert_eq!(stable.stop().await, [""; 0]);
    });
}

fn first_pod(world: &World, name: &str) -> String {
    let selector = format!("slipway.dev/model-deployment={name}");
    let first = "jsonpath={.items[0].metadata.name}";
    world.kubectl(&["get", "pods", "--selector", &selector, "--output", first])
}

#[test]
fn fields_that_need_all_versions_in_a_pod_are_refused_with_separate() {
    on_a_cluster(async |world| {
        let mut further = separate(&json!([]));
        further["stickyKey"] = json!({"header": "x-user"});
        let refused = world.refused(&manifest(json!({"version": "1"}), &further));
        assert!(refused.contains("placement: separate is not possible with"), "{refused}");
    });
}
