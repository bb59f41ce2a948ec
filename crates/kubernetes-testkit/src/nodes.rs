//! Fake nodes, and what nodes say they have.

use serde_json::{Map, Value, json};

use crate::names::FAKE_ANNOTATION;
use crate::{Cluster, Error};

const READY_LIMIT: &str = "--timeout=600s";

/// Nodes that kwok plays: pods on them are running and ready, and pods of Jobs end by the annotations
/// `fake/run-time` and `fake/exit-code`.
#[derive(Debug, Clone)]
pub struct FakeNodes {
    prefix: String,
    count: usize,
    labels: Map<String, Value>,
    resources: Map<String, Value>,
    taints: Vec<Value>,
}

impl FakeNodes {
    /// `count` nodes `<prefix>-0`, `<prefix>-1`, …, each with 32 CPUs, 256 GiB of memory and room for 110
    /// pods.
    pub fn new(prefix: &str, count: usize) -> Self {
        let resources = [("cpu", "32"), ("memory", "256Gi"), ("pods", "110")];
        let resources = resources.map(|(name, value)| (name.to_owned(), Value::from(value)));
        Self {
            prefix: prefix.to_owned(),
            count,
            labels: Map::new(),
            resources: resources.into_iter().collect(),
            taints: Vec::new(),
        }
    }

    /// Sets a label of all nodes.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.into());
        self
    }

    /// Keeps pods away that do not tolerate this key.
    #[must_use]
    pub fn taint(mut self, key: &str) -> Self {
        self.taints.push(json!({ "key": key, "effect": "NoSchedule" }));
        self
    }

    /// Sets what each node has of a resource, e.g. `nvidia.com/gpu`.
    #[must_use]
    pub fn resource(mut self, name: &str, quantity: &str) -> Self {
        self.resources.insert(name.to_owned(), quantity.into());
        self
    }

    /// The names of the nodes.
    pub fn names(&self) -> Vec<String> {
        (0..self.count).map(|index| format!("{}-{index}", self.prefix)).collect()
    }

    fn manifest(&self) -> Value {
        let node = |name: String| {
            let mut labels = self.labels.clone();
            labels.insert("kubernetes.io/hostname".to_owned(), name.clone().into());
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": { "name": name, "labels": labels, "annotations": { FAKE_ANNOTATION: "fake" } },
                "spec": { "taints": self.taints },
                "status": { "capacity": self.resources, "allocatable": self.resources },
            })
        };
        let items: Vec<Value> = self.names().into_iter().map(node).collect();
        json!({ "apiVersion": "v1", "kind": "List", "items": items })
    }
}

impl Cluster {
    /// Adds fake nodes and waits until they are ready. The cluster needs level `control`.
    ///
    /// # Errors
    /// The API server rejects one, or there is no kwok.
    pub fn add_fake_nodes(&self, nodes: &FakeNodes) -> Result<(), Error> {
        let manifest = nodes.manifest().to_string();
        // Unlike `apply`, `create` keeps the status.
        self.kubectl_with(&["create", "--filename", "-"], Some(&manifest))?;
        let names: Vec<String> = nodes.names().into_iter().map(|name| format!("node/{name}")).collect();
        let mut wait = vec!["wait", "--for=condition=Ready", READY_LIMIT];
        wait.extend(names.iter().map(String::as_str));
        self.kubectl(&wait).map(drop)
    }

    /// Changes the status of a node by a JSON merge patch.
    ///
    /// # Errors
    /// There is no such node, or the API server rejects the patch.
    pub fn patch_node_status(&self, node: &str, status: &Value) -> Result<(), Error> {
        let patch = json!({ "status": status }).to_string();
        let arguments = ["patch", "node", node, "--subresource=status", "--type=merge", "--patch", &patch];
        self.kubectl(&arguments).map(drop)
    }

    /// Has a node offer an extended resource, e.g. GPUs that do not exist. kubelet keeps it.
    ///
    /// # Errors
    /// There is no such node, or the API server rejects the quantity.
    pub fn offer(&self, node: &str, resource: &str, quantity: u32) -> Result<(), Error> {
        let offered = json!({ resource: quantity.to_string() });
        self.patch_node_status(node, &json!({ "capacity": offered, "allocatable": offered }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fake_nodes_have_what_they_were_given() {
        let nodes = FakeNodes::new("gpu", 2).label("gpu-type", "a100").resource("nvidia.com/gpu", "8");
        assert_eq!(nodes.names(), ["gpu-0", "gpu-1"]);
        let second = &nodes.manifest()["items"][1];
        assert_eq!(second["metadata"]["labels"]["gpu-type"], "a100");
        assert_eq!(second["metadata"]["labels"]["kubernetes.io/hostname"], "gpu-1");
        assert_eq!(second["metadata"]["annotations"][FAKE_ANNOTATION], "fake");
        assert_eq!(second["status"]["allocatable"]["nvidia.com/gpu"], "8");
        assert_eq!(second["status"]["capacity"]["memory"], "256Gi");
    }
}
