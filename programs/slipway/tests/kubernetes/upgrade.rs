//! The definition of a release replaces that of the one before, with objects in place.

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{Cluster, Level, Options};

/// The definition of the release before.
const BEFORE: &str = include_str!("before/modeldeployments.yaml");
const NOW: &str = include_str!("../../../../deploy/kubernetes/modeldeployments.yaml");

fn object() -> Value {
    json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "fraud"},
        "spec": {"model": {"name": "fraud-model", "alias": "champion"}, "replicas": {"min": 2, "max": 4},
            "scaling": {"metric": "concurrency", "target": 2}, "resources": {"cpus": 0.5, "memory": "1Gi"},
            "strategy": {"steps": [{"weightPercent": 10, "holdSeconds": 5}]},
            "rules": [{"name": "beta", "when": [{"header": "x-beta"}], "to": "candidate"}]}})
}

#[test]
fn objects_of_the_release_before_stay_as_they_are_and_take_new_fields() {
    let Some(cluster) = Cluster::own(&Options::new(Level::Api)) else { return };
    cluster.apply(BEFORE).unwrap();
    let definition = "crd/modeldeployments.slipway.dev";
    let established = ["wait", definition, "--for=condition=Established", "--timeout=60s"];
    cluster.kubectl(&established).unwrap();
    let namespace = cluster.namespace();
    namespace.apply(&object().to_string()).unwrap();
    let found = || -> Value {
        let text = namespace.kubectl(&["get", "md", "fraud", "--output", "json"]).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let before = found();
    cluster.apply(NOW).unwrap();
    cluster.kubectl(&established).unwrap();
    let after = found();
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
    let mut changed = object();
    changed["spec"]["scaling"]["scaleToZeroAfterSeconds"] = json!(60);
    // The API server reloads the definition a moment later.
    let started = std::time::Instant::now();
    while let Err(error) = namespace.apply(&changed.to_string()) {
        assert!(started.elapsed().as_secs() < 60, "{error}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(found()["spec"]["scaling"]["scaleToZeroAfterSeconds"], 60);
}
