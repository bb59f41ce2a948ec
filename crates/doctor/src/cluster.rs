//! A Kubernetes cluster.

mod definitions;
mod parts;
mod rights;

use serde_json::Value;

pub use definitions::{Definition, definition};
pub use parts::{Workload, certificates, workloads};
pub use rights::{RIGHTS, Right, Scope, rights};

use crate::{Finding, Level, Version};

/// What the Helm chart requires.
const KUBERNETES: Version = Version(1, 29);
const GPU: &str = "nvidia.com/gpu";
/// Set by NVIDIA's and by node feature discovery where a node has a GPU.
const GPU_LABELS: [&str; 3] = [
    "nvidia.com/gpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "cloud.google.com/gke-accelerator",
];
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The version of the API server, as `/version` returns it.
pub fn version(answer: &Value) -> Finding {
    let text = answer["gitVersion"].as_str().unwrap_or("unknown");
    let right = Version::parse(text).is_some_and(|version| version >= KUBERNETES);
    Finding::of(
        right,
        Level::Fail,
        "kubernetes version",
        text,
        format!("upgrade the cluster to {KUBERNETES} or newer"),
    )
}

/// Nodes, as a list of the API.
pub fn nodes(list: &Value) -> Vec<Finding> {
    let nodes = items(list);
    let ready = nodes.iter().filter(|node| is_ready(node)).count();
    let found = format!("{ready} of {} ready", nodes.len());
    let advice = "check `kubectl describe node` of those that are not ready";
    let level = if ready == 0 { Level::Fail } else { Level::Warn };
    let right = ready > 0 && ready == nodes.len();
    vec![Finding::of(right, level, "nodes", found, advice), gpus(nodes)]
}

fn gpus(nodes: &[Value]) -> Finding {
    let amount = |node: &Value| -> u64 {
        let text = node["status"]["allocatable"][GPU].as_str();
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let labelled = |node: &&Value| {
        GPU_LABELS
            .iter()
            .any(|label| node["metadata"]["labels"].get(label).is_some_and(|value| value != "false"))
    };
    let offered: u64 = nodes.iter().map(amount).sum();
    let without: Vec<&str> = nodes
        .iter()
        .filter(labelled)
        .filter(|node| amount(node) == 0)
        .filter_map(|node| node["metadata"]["name"].as_str())
        .collect();
    if !without.is_empty() {
        let found = format!("nodes with a GPU that offer no {GPU}: {}", without.join(", "));
        let advice = "install the NVIDIA device plugin or the GPU operator (docs/install.md), and let its \
                      DaemonSet tolerate the taints of these nodes";
        return Finding::warn("gpu", found, advice);
    }
    if offered == 0 {
        return Finding::ok("gpu", "none: models and jobs run on the CPU");
    }
    Finding::ok("gpu", format!("{offered} × {GPU}"))
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// StorageClasses, as a list of the API.
pub fn storage(list: &Value) -> Finding {
    const CHECK: &str = "storage class";
    let names = |classes: &[&Value]| -> String {
        let names: Vec<&str> =
            classes.iter().filter_map(|class| class["metadata"]["name"].as_str()).collect();
        names.join(", ")
    };
    let all: Vec<&Value> = items(list).iter().collect();
    let is_default = |class: &&Value| class["metadata"]["annotations"][DEFAULT_CLASS] == "true";
    let defaults: Vec<&Value> = all.iter().copied().filter(is_default).collect();
    match (&defaults[..], &all[..]) {
        ([_], _) => Finding::ok(CHECK, format!("{} (default)", names(&defaults))),
        ([], []) => Finding::warn(
            CHECK,
            "none",
            "install a provisioner of volumes: the evaluation servers of the chart and model caches \
             require one; external Postgres, NATS and S3 do not",
        ),
        ([], _) => Finding::warn(
            CHECK,
            format!("no default among {}", names(&all)),
            format!("annotate one with {DEFAULT_CLASS}=true, or set the class in the values of the chart"),
        ),
        (_, _) => Finding::warn(
            CHECK,
            format!("several defaults: {}", names(&defaults)),
            format!("remove {DEFAULT_CLASS} from all but one"),
        ),
    }
}

/// API groups, as `/apis` returns them.
pub fn metrics(groups: &Value) -> Finding {
    let has =
        |name: &str| groups["groups"].as_array().into_iter().flatten().any(|group| group["name"] == name);
    let advice = "install metrics-server: without it, `kubectl top` and scaling by CPU or memory do not \
                  work; scaling by requests does";
    let found = if has("metrics.k8s.io") { "available" } else { "metrics.k8s.io is missing" };
    Finding::of(has("metrics.k8s.io"), Level::Warn, "metrics API", found, advice)
}

/// Something that the caller may not read.
pub fn not_readable(check: &str, why: &str) -> Finding {
    Finding::warn(check, format!("not checked: {why}"), "use a kubeconfig that may list it, or ignore this")
}

/// A cluster that cannot be reached.
pub fn unreachable(why: &str) -> Finding {
    let advice = "check the kubeconfig (KUBECONFIG, --kube-context), the network and the credentials";
    Finding::fail("kubernetes", format!("unreachable: {why}"), advice)
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str, labels: &Value, gpus: &str) -> Value {
        json!({"metadata": {"name": name, "labels": labels}, "status": {
            "allocatable": {"nvidia.com/gpu": gpus}, "conditions": [{"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn versions_and_nodes() {
        for (version_text, level) in [
            ("v1.29.0", Level::Ok),
            ("v1.34.1-gke.1", Level::Ok),
            ("v1.28.9", Level::Fail),
            ("", Level::Fail),
        ] {
            assert_eq!(version(&json!({"gitVersion": version_text})).level, level, "{version_text}");
        }
        let list = |nodes: Vec<Value>| json!({"items": nodes});
        let level = |nodes_list: Value| nodes(&nodes_list)[0].level;
        assert_eq!(level(list(vec![node("a", "True", &json!({}), "0")])), Level::Ok);
        let one_of_two = list(vec![node("a", "True", &json!({}), "0"), node("b", "False", &json!({}), "0")]);
        assert_eq!(level(one_of_two), Level::Warn);
        assert_eq!(level(list(vec![])), Level::Fail);
    }

    #[test]
    fn gpus_need_a_device_plugin() {
        let gpu = |labels: Value, gpus: &str| {
            nodes(&json!({"items": [node("a", "True", &labels, gpus)]})).remove(1)
        };
        assert!(gpu(json!({}), "0").found.starts_with("none"));
        assert_eq!(gpu(json!({"nvidia.com/gpu.present": "true"}), "4").found, "4 × nvidia.com/gpu");
        let missing = gpu(json!({"nvidia.com/gpu.present": "true"}), "0");
        assert_eq!((missing.level, missing.found.contains(": a")), (Level::Warn, true), "{missing:?}");
        assert_eq!(gpu(json!({"nvidia.com/gpu.present": "false"}), "0").level, Level::Ok);
    }

    #[test]
    fn storage_classes_and_metrics() {
        let class = |name: &str, default: &str| {
            let annotations = json!({DEFAULT_CLASS: default});
            json!({"metadata": {"name": name, "annotations": annotations}})
        };
        for (classes, level) in [
            (vec![class("a", "true"), class("b", "false")], Level::Ok),
            (vec![class("a", "true"), class("b", "true")], Level::Warn),
            (vec![class("a", "false")], Level::Warn),
            (vec![], Level::Warn),
        ] {
            assert_eq!(storage(&json!({"items": classes})).level, level, "{classes:?}");
        }
        assert_eq!(metrics(&json!({"groups": [{"name": "metrics.k8s.io"}]})).level, Level::Ok);
        assert_eq!(metrics(&json!({"groups": []})).level, Level::Warn);
    }
}
