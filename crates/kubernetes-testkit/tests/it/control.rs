//! Controllers, scheduler and fake nodes.

use serde_json::json;
use slipway_kubernetes_testkit::{Cluster, FakeNodes, Level};

use crate::support::{KUBECTL_LIMIT, job, pod, wait_for, wait_for_phase};

#[test]
fn a_job_runs_on_a_fake_node_and_completes() {
    let Some(cluster) = Cluster::shared(Level::Control) else { return };
    cluster.add_fake_nodes(&FakeNodes::new("cpu", 2)).unwrap();
    let namespace = cluster.namespace();
    namespace.apply(&job("train", json!({ "completions": 3, "parallelism": 3 })).to_string()).unwrap();
    namespace.kubectl(&["wait", "job/train", "--for=condition=Complete", KUBECTL_LIMIT]).unwrap();
    let pods = cluster.get(&["--namespace", namespace.name(), "pods"]).unwrap();
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 3);
    for pod in pods {
        assert_eq!(pod["status"]["phase"], "Succeeded");
    }
}

#[test]
fn a_fake_pod_fails_with_the_exit_code_of_its_annotation() {
    let Some(cluster) = Cluster::shared(Level::Control) else { return };
    cluster.add_fake_nodes(&FakeNodes::new("failing", 1).label("kind", "failing")).unwrap();
    let namespace = cluster.namespace();
    let mut failing = job("train", json!({}));
    let template = &mut failing["spec"]["template"];
    template["metadata"] = json!({ "annotations": { "fake/exit-code": "42" } });
    template["spec"]["nodeSelector"] = json!({ "kind": "failing" });
    namespace.apply(&failing.to_string()).unwrap();
    namespace.kubectl(&["wait", "job/train", "--for=condition=Failed", KUBECTL_LIMIT]).unwrap();
    let pods = cluster.get(&["--namespace", namespace.name(), "pods"]).unwrap();
    let ended = &pods["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 42);
}

#[test]
fn a_pod_waits_for_gpus_until_a_node_offers_them() {
    let Some(cluster) = Cluster::shared(Level::Control) else { return };
    let namespace = cluster.namespace();
    let mut training = pod("train", &["true"]);
    training["spec"]["containers"][0]["resources"] = json!({ "limits": { "nvidia.com/gpu": "8" } });
    namespace.apply(&training.to_string()).unwrap();
    let reason = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].reason}";
    wait_for("word of the scheduler", || {
        let reason = namespace.kubectl(&["get", "pod", "train", "--output", reason]).unwrap();
        (reason == "Unschedulable").then_some(())
    });
    cluster.add_fake_nodes(&FakeNodes::new("gpu", 1).resource("nvidia.com/gpu", "4")).unwrap();
    cluster.offer("gpu-0", "nvidia.com/gpu", 8).unwrap();
    wait_for_phase(&namespace, "train", "Running");
    let node = namespace.kubectl(&["get", "pod", "train", "--output", "jsonpath={.spec.nodeName}"]).unwrap();
    assert_eq!(node, "gpu-0");
}
