//! No pods while nobody asks.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::rollouts::{MODEL, answers, immediate};
use crate::world::{World, manifest, on_a_cluster};

fn further(max: u32) -> Value {
    let mut further = immediate();
    further["replicas"] = json!({"min": 1, "max": max});
    further["scaling"] = json!({"scaleToZeroAfterSeconds": 5});
    further
}

/// Waits until the ModelDeployment is at zero.
async fn asleep(world: &World) {
    let asleep = async || {
        let found = world.found("md/fraud");
        let ready = &found["status"]["conditions"][0];
        (ready["reason"] == "ScaledToZero" && own_pods(world) == 0).then_some(())
    };
    world.eventually("it has scaled to zero", asleep).await;
}

fn own_pods(world: &World) -> usize {
    let selector = ["--selector", "slipway.dev/model-deployment=fraud", "--output", "name"];
    world.kubectl(&[&["get", "pods"][..], &selector].concat()).lines().count()
}

#[test]
fn a_deployment_without_requests_has_no_pods_and_loses_no_request() {
    on_a_cluster(async |world| {
        for fixture in ["right-1.onnx", "right-2.onnx"] {
            world.client.register(MODEL, fixture).await;
        }
        world.apply(&manifest(json!({"version": "1"}), &further(1)));
        world.wait("condition=Ready");
        answers(&world, "1").await;
        asleep(&world).await;
        let client = world.service();
        let asked = Instant::now();
        assert_eq!(client.predict("fraud", 1.0, "from zero").await.unwrap(), ("1".to_owned(), 1));
        println!("first answer from zero: {:.0} ms", asked.elapsed().as_secs_f64() * 1e3);
        assert_eq!(own_pods(&world), 0, "one request brings no pods");

        // A rollout needs no pods, either.
        world.apply(&manifest(json!({"version": "2"}), &further(1)));
        answers(&world, "2").await;
        let woken = Instant::now();
        let traffic = client.traffic("fraud");
        let back = async || {
            let found = world.found("md/fraud");
            let ready = found["status"]["readyReplicas"] == 1;
            (ready && found["status"]["conditions"][0]["reason"] == "Serving").then_some(())
        };
        world.eventually("pods are back", back).await;
        println!("traffic to own pods: {:.1} s", woken.elapsed().as_secs_f64());
        let led = async || {
            let selector = &world.found("service/fraud")["spec"]["selector"];
            (selector["slipway.dev/model-deployment"] == "fraud").then_some(())
        };
        world.eventually("the Service leads to them", led).await;
        sleep(Duration::from_secs(3)).await;
        let answered = traffic.answered();
        assert_eq!(traffic.stop().await, [""; 0], "of {answered} requests");
        asleep(&world).await;
        assert_eq!(client.predict("fraud", 1.0, "again").await.unwrap().0, "2");
    });
}

#[test]
fn an_autoscaled_deployment_comes_back_where_the_field_is_removed_and_the_pool_goes() {
    on_a_cluster(async |world| {
        world.client.register(MODEL, "right-1.onnx").await;
        world.apply(&manifest(json!({"version": "1"}), &further(3)));
        world.wait("condition=Ready");
        asleep(&world).await;
        let mut awake = further(3);
        awake["scaling"] = json!({"metric": "cpu"});
        world.apply(&manifest(json!({"version": "1"}), &awake));
        world.wait("jsonpath={.status.readyReplicas}=1");
        let gone = async || {
            let objects = world.objects("deployments,services,poddisruptionbudgets,networkpolicies");
            objects.iter().all(|name| !name.contains("serving-pool")).then_some(())
        };
        world.eventually("the pool is gone", gone).await;
        answers(&world, "1").await;
    });
}

#[test]
fn pods_come_back_when_the_pool_is_lost() {
    on_a_cluster(async |world| {
        world.client.register(MODEL, "right-1.onnx").await;
        world.apply(&manifest(json!({"version": "1"}), &further(1)));
        world.wait("condition=Ready");
        asleep(&world).await;
        world.kill_operator();
        let pool = ["--selector", "slipway.dev/model-deployment=slipway-serving-pool"];
        world.kubectl(&[&["delete", "pods", "--grace-period=0", "--force"][..], &pool].concat());
        world.start_operator().await;
        answers(&world, "1").await;
    });
}
