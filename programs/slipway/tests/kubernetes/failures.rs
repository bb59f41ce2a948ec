//! What is killed or away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use slipway_kubernetes_testkit::{Cluster, Level};

use crate::rollouts::{MODEL, answers, immediate, steps};
use crate::world::{LIMIT, World, alone, behind_a_proxy, manifest, on_a_cluster};

/// Deploys version 1 of two, with this number of pods.
async fn served(world: &World, pods: u32) {
    for fixture in ["right-1.onnx", "right-2.onnx"] {
        world.client.register(MODEL, fixture).await;
    }
    world.client.set_alias(MODEL, "champion", "1").await;
    let mut further = steps();
    further["replicas"] = json!({"min": pods});
    world.apply(&manifest(json!({"alias": "champion"}), &further));
    world.wait("condition=Ready");
    answers(world, "1").await;
}

fn pods(world: &World) -> Vec<String> {
    world.objects("pods").iter().filter_map(|pod| Some(pod.strip_prefix("pod/")?.to_owned())).collect()
}

#[test]
fn a_pod_that_is_evicted_fails_no_request() {
    on_a_cluster(async |world| {
        served(&world, 2).await;
        let traffic = world.service().traffic("fraud");
        for pod in pods(&world) {
            world.evict(&pod);
            let replaced = async || {
                let left = pods(&world);
                (left.len() == 2 && !left.contains(&pod)).then_some(())
            };
            world.eventually("another pod is there", replaced).await;
            world.wait("jsonpath={.status.readyReplicas}=2");
        }
        let answered = traffic.answered();
        assert_eq!(traffic.stop().await, [""; 0], "of {answered} requests");
        assert!(answered > 50, "{answered}");
    });
}

#[test]
fn an_api_server_that_restarts_costs_no_request_and_no_rollout() {
    alone(async |world| {
        served(&world, 2).await;
        let traffic = world.service().traffic("fraud");
        world.client.set_alias(MODEL, "champion", "2").await;
        world.wait("jsonpath={.status.rolloutPhase}=progressing");
        let cluster = Cluster::shared(Level::Node).unwrap();
        tokio::task::block_in_place(|| cluster.restart_api_server().unwrap());
        world.wait("jsonpath={.status.stableVersion}=2");
        answers(&world, "2").await;
        // The watches have begun again.
        world.kubectl(&["delete", "poddisruptionbudget", "fraud"]);
        let repaired = async || (world.objects("poddisruptionbudgets").len() == 1).then_some(());
        world.eventually("what was deleted is there again", repaired).await;
        world.client.set_alias(MODEL, "champion", "1").await;
        answers(&world, "1").await;
        assert_eq!(traffic.stop().await, [""; 0]);
    });
}

#[test]
fn a_rollout_ends_as_it_would_whatever_the_operator_misses() {
    on_a_cluster(async |world| {
        served(&world, 1).await;
        let traffic = world.service().traffic("fraud");
        world.client.set_alias(MODEL, "champion", "2").await;
        world.wait("jsonpath={.status.rolloutPhase}=progressing");
        world.kill_operator();
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.start_operator().await;
        world.without("Postgres", Duration::from_secs(3)).await;
        world.without("NATS", Duration::from_secs(3)).await;
        world.wait("jsonpath={.status.stableVersion}=2");
        world.wait("condition=Ready");
        let answered = traffic.answered();
        assert_eq!(traffic.stop().await, [""; 0], "of {answered} requests");
    });
}

#[test]
fn pods_answer_while_everything_else_is_away_and_one_that_is_lost_comes_back() {
    on_a_cluster(async |world| {
        served(&world, 1).await;
        world.kill_operator();
        let before = pods(&world);
        world.kubectl(&["delete", "pod", &before[0], "--grace-period=0", "--force"]);
        // Nobody but Kubernetes and the registry is needed for that.
        let back = async || {
            let left = pods(&world);
            (left.len() == 1 && left != before).then_some(())
        };
        world.eventually("another pod is there", back).await;
        answers(&world, "1").await;
        world.start_operator().await;
        world.apply(&manifest(json!({"alias": "champion"}), &immediate()));
        world.client.set_alias(MODEL, "champion", "2").await;
        answers(&world, "2").await;
    });
}

#[test]
fn a_rollout_ends_as_it_would_while_the_api_server_is_busy_and_drops_watches() {
    behind_a_proxy(async |world| {
        served(&world, 1).await;
        let proxy = world.proxy.as_ref().unwrap();
        let traffic = world.service().traffic("fraud");
        proxy.set_failing(true);
        world.client.set_alias(MODEL, "champion", "2").await;
        world.kubectl(&["scale", "md", "fraud", "--replicas=2"]);
        world.wait("jsonpath={.status.stableVersion}=2");
        world.wait("jsonpath={.status.readyReplicas}=2");
        world.wait("condition=Ready");
        let answered = traffic.answered();
        assert_eq!(traffic.stop().await, [""; 0], "of {answered} requests");
        world.kubectl(&["delete", "md", "fraud", LIMIT]);
        let gone = async || world.objects("deployments,pods,services").is_empty().then_some(());
        world.eventually("nothing is left", gone).await;
        let counts = proxy.counts();
        let seen = |count: &AtomicU64| count.load(Ordering::SeqCst) > 0;
        let all = [&counts.busy, &counts.slow, &counts.lost, &counts.gone, &counts.dropped];
        assert!(all.into_iter().all(seen), "{counts:?}");
        proxy.set_failing(false);
    });
}
