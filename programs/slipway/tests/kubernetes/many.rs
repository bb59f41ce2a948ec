//! Many objects, on nodes that kwok plays.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{Cluster, FakeNodes, Level, Request};

use crate::rollouts::{MODEL, answers, immediate};
use crate::world::{ACCOUNT, World, manifest, on_a_cluster};

/// Number of ModelDeployments.
const COUNT_VARIABLE: &str = "SLIPWAY_TEST_DEPLOYMENTS";
const DEFAULT_COUNT: usize = 20;
/// Label and taint of fake nodes.
const FAKE: &str = "fake";
/// A kwok node takes 110 pods.
const PODS_PER_NODE: usize = 100;
const MAX_OPERATOR_KIB: u64 = 100 * 1024;
/// Objects of one manifest.
const PER_MANIFEST: usize = 50;

/// What the operator has written so far. Reviews of its rights are not stored.
fn writes(world: &World) -> Vec<Request> {
    let mut requests = world.namespace.requests(ACCOUNT).unwrap();
    requests.retain(|request| {
        !matches!(&*request.verb, "get" | "list" | "watch") && request.resource != "selfsubjectaccessreviews"
    });
    requests
}

/// Names of the ModelDeployments that are ready.
fn ready(world: &World) -> usize {
    let ready = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
    world.kubectl(&["get", "md", "--output", ready]).split_whitespace().filter(|is| *is == "True").count()
}

/// Memory of the operator without its code, which in a debug build has tens of MiB.
fn memory_kib(world: &World) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.operator_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A ModelDeployment with pods on fake nodes, which are ready and answer nothing.
fn named(name: &str) -> Value {
    let mut further = immediate();
    further["nodeSelector"] = json!({"kind": FAKE});
    further["tolerations"] = json!([{"key": FAKE, "operator": "Exists"}]);
    let mut object = manifest(json!({"version": "1"}), &further);
    object["metadata"]["name"] = json!(name);
    object
}

#[test]
fn many_objects_are_ready_and_a_change_of_one_touches_only_its_own() {
    let count = std::env::var(COUNT_VARIABLE).ok().map_or(DEFAULT_COUNT, |count| count.parse().unwrap());
    on_a_cluster(async |world| {
        let cluster = Cluster::shared(Level::Node).unwrap();
        let nodes = FakeNodes::new("many", count.div_ceil(PODS_PER_NODE)).label("kind", FAKE).taint(FAKE);
        tokio::task::block_in_place(|| cluster.add_fake_nodes(&nodes).unwrap());
        world.client.register(MODEL, "right-1.onnx").await;
        let names: Vec<String> = (0..count).map(|number| format!("m-{number}")).collect();
        let full: Vec<String> =
            names.iter().map(|name| format!("{}_{name}", world.namespace.name())).collect();
        let _serving = world.serve(&full.join(","));
        let idle_kib = memory_kib(&world);
        let started = Instant::now();
        for names in names.chunks(PER_MANIFEST) {
            let items: Vec<Value> = names.iter().map(|name| named(name)).collect();
            world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}));
        }
        let applied = started.elapsed();
        while ready(&world) < count {
            assert!(started.elapsed() < Duration::from_secs(1_200), "{} of {count} are ready", ready(&world));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let elapsed = started.elapsed();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let all = writes(&world).len();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = writes(&world).len();
        let idle = before - all;
        let labelled = json!({"spec": {"podLabels": {"team": "risk"}}}).to_string();
        world.kubectl(&["patch", "md", "m-1", "--type=merge", "--patch", &labelled]);
        let changed = async || {
            let labels = "jsonpath={.spec.template.metadata.labels.team}";
            let label = world.kubectl(&["get", "deployment", "m-1", "--output", labels]);
            (label == "risk").then_some(())
        };
        world.eventually("the pods have the label", changed).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let touched: Vec<Request> = writes(&world).split_off(before);
        println!(
            "{count} ModelDeployments: applied in {:.1} s, ready {:.1} s later; {:.1} writes for each; \
             memory without code {:.1} MiB, {:.1} MiB before",
            applied.as_secs_f64(),
            (elapsed - applied).as_secs_f64(),
            all as f64 / count as f64,
            memory_kib(&world) as f64 / 1024.0,
            idle_kib as f64 / 1024.0,
        );
        assert_eq!(idle, 0, "an idle operator writes nothing");
        assert!(touched.iter().all(|request| request.name == "m-1"), "{touched:#?}");
        assert!(memory_kib(&world) < MAX_OPERATOR_KIB);
    });
}

#[test]
fn objects_of_one_name_in_two_namespaces_are_two_deployments() {
    on_a_cluster(async |mut world| {
        for fixture in ["right-1.onnx", "right-2.onnx"] {
            world.client.register(MODEL, fixture).await;
        }
        let cluster = Cluster::shared(Level::Node).unwrap();
        let other = tokio::task::block_in_place(|| cluster.namespace());
        world.also_in(&other).await;
        world.apply(&manifest(json!({"version": "1"}), &immediate()));
        let second = manifest(json!({"version": "2"}), &immediate()).to_string();
        tokio::task::block_in_place(|| other.apply(&second).unwrap());
        world.wait("condition=Ready");
        answers(&world, "1").await;
        let _first = std::mem::replace(&mut world.namespace, other);
        world.wait("condition=Ready");
        answers(&world, "2").await;
    });
}
