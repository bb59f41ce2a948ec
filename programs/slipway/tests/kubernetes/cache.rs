//! A model cache that the pods of a node share.

use std::time::Instant;

use serde_json::json;
use slipway_kubernetes_testkit::{Cluster, Level};

use crate::rollouts::{MODEL, answers, immediate};
use crate::world::{manifest, on_a_cluster};

const CLAIM: &str = "slipway-models";

#[test]
fn pods_of_a_node_share_a_cache_that_is_filled_before_serving_starts() {
    on_a_cluster(async |mut world| {
        world.client.register(MODEL, "right-1.onnx").await;
        let namespace = world.namespace.name().to_owned();
        // A volume of the node, as an administrator makes it: the pods' group may write there.
        let folder = world.folder.path().join("node-cache");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let cluster = Cluster::shared(Level::Node).unwrap();
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": format!("models-{namespace}")},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"],
                "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": namespace, "name": CLAIM},
                "hostPath": {"path": folder.to_str().unwrap()}}});
        tokio::task::block_in_place(|| cluster.apply(&volume.to_string()).unwrap());
        world.apply(
            &json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM},
            "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "",
                "resources": {"requests": {"storage": "1Gi"}}}}),
        );
        world.set(&[("SLIPWAY_OPERATOR_CACHE_CLAIM", CLAIM)]).await;
        world.apply(&manifest(json!({"version": "1"}), &immediate()));
        world.wait("condition=Ready");
        answers(&world, "1").await;
        let blobs = || std::fs::read_dir(folder.join("blobs")).unwrap().count();
        assert!(blobs() > 0);
        let before = blobs();
        world.kubectl(&["scale", "md", "fraud", "--replicas=2"]);
        let scaled = Instant::now();
        world.wait("jsonpath={.status.readyReplicas}=2");
        println!("one more pod is ready after {:.1} s", scaled.elapsed().as_secs_f64());
        assert_eq!(blobs(), before);
        let pods = world.kubectl(&["get", "pods", "--output", "json"]);
        let pods: serde_json::Value = serde_json::from_str(&pods).unwrap();
        for pod in pods["items"].as_array().unwrap() {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let log = world.kubectl(&["logs", name, "--container", "prefetch"]);
            assert!(log.contains("the version is in the cache"), "{log}");
            let of = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let condition = pod["status"]["conditions"].as_array().unwrap();
            let ready = condition.iter().find(|condition| condition["type"] == "Ready").unwrap();
            let started = &pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"];
            println!(
                "{name}: serving started at {}, ready at {}",
                of(started),
                of(&ready["lastTransitionTime"])
            );
        }
        let name = format!("models-{namespace}");
        tokio::task::block_in_place(|| cluster.kubectl(&["delete", "pv", &name, "--wait=false"]).unwrap());
    });
}
