//! From the submission of a job to its running command, next to `kubectl create job` on the same node.
//!
//! `SLIPWAY_TEST_STARTS=20` measures more of both.

use std::time::{Duration, Instant};

use serde_json::json;
use slipway_kubernetes_testkit::BUSYBOX_IMAGE;

use crate::gate::Gate;
use crate::world::{World, on_a_cluster};

const COUNT_VARIABLE: &str = "SLIPWAY_TEST_STARTS";
const DEFAULT_COUNT: usize = 2;

/// Time until the command of a job of ours runs.
async fn ours(world: &World, gate: &mut Gate) -> Duration {
    let begin = Instant::now();
    let id = world.submit(&gate.command(), json!({"resources": {"cpus": 0.05}}), json!({})).await;
    gate.filled(1).await;
    let took = begin.elapsed();
    gate.open().await;
    world.launcher.ended(&id, "succeeded").await;
    took
}

/// Time until the command of a Job runs that kubectl creates.
async fn kubectl(world: &World, gate: &mut Gate, number: usize) -> Duration {
    let (name, image) = (format!("peer-{number}"), format!("--image={BUSYBOX_IMAGE}"));
    let begin = Instant::now();
    world.kubectl(&["create", "job", &name, &image, "--", "sh", "-c", &gate.command()]);
    gate.filled(1).await;
    let took = begin.elapsed();
    gate.open().await;
    let job = format!("job/{name}");
    world.kubectl(&["wait", &job, "--for=condition=Complete", "--timeout=60s"]);
    took
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

#[test]
fn a_job_and_one_that_kubectl_creates_run_on_the_same_node() {
    on_a_cluster(async |world| {
        let count = std::env::var(COUNT_VARIABLE).map_or(DEFAULT_COUNT, |count| count.parse().unwrap());
        let mut gate = Gate::begin().await;
        let (mut own, mut peer) = (Vec::new(), Vec::new());
        for number in 0..count {
            own.push(ours(&world, &mut gate).await);
            peer.push(kubectl(&world, &mut gate, number).await);
        }
        let (own, peer) = (median(own), median(peer));
        println!(
            "submitted to running, median of {count}: {own:.2} s; kubectl create job: {peer:.2} s; \
             ratio {:.2}",
            own / peer
        );
    });
}
