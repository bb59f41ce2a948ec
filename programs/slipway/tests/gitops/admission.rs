//! The admission policies.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_kubernetes_testkit::TestNamespace;

use crate::{PATIENCE, cluster, text};

fn deployment(further: Value) -> Value {
    let mut spec = json!({"model": {"name": "fraud", "version": "1"}});
    if let (Value::Object(spec), Value::Object(further)) = (&mut spec, further) {
        spec.extend(further);
    }
    json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "fraud"},
        "spec": spec})
}

fn pod(spec: Value) -> Value {
    deployment(json!({"podTemplate": {"spec": spec}}))
}

fn container(further: Value) -> Value {
    let mut container = json!({"name": "serving"});
    if let (Value::Object(container), Value::Object(further)) = (&mut container, further) {
        container.extend(further);
    }
    pod(json!({"containers": [container]}))
}

fn job(further: Value) -> Value {
    let mut spec = json!({"image": "registry.example.com/train:1", "command": ["python", "train.py"]});
    if let (Value::Object(spec), Value::Object(further)) = (&mut spec, further) {
        spec.extend(further);
    }
    json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "train"},
        "spec": spec})
}

/// Nothing is stored; the refusal, if there is one.
fn refusal(namespace: &TestNamespace<'_>, object: &Value) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("object.json");
    std::fs::write(&file, object.to_string()).unwrap();
    let create = ["create", "--dry-run=server", "--filename", file.to_str().unwrap()];
    namespace.kubectl(&create).err().map(|error| error.to_string())
}

/// Policies are in force a moment after they are there.
fn wait(namespace: &TestNamespace<'_>, object: &Value) {
    let started = Instant::now();
    while refusal(namespace, object).is_none() {
        assert!(started.elapsed() < PATIENCE, "the policies are not in force: {object}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn broken_specs_are_refused_before_they_are_stored() {
    let Some(cluster) = cluster() else { return };
    let namespace = cluster.namespace();
    cluster.apply(&text("kubernetes/admission-policy.yaml")).unwrap();
    let hostile = pod(json!({"hostNetwork": true}));
    wait(&namespace, &hostile);
    wait(&namespace, &job(json!({"securityContext": {"privileged": true}})));

    let confirmed = format!("{}_fraud", namespace.name());
    let drill = |confirm: &str| {
        let fault = json!({"fault": "errors", "target": "answers", "percent": 5, "confirm": confirm});
        deployment(json!({"faultReplay": fault}))
    };
    let steps = |weights: [u32; 2]| {
        let steps = weights.map(|weight| json!({"weightPercent": weight, "holdSeconds": 1}));
        deployment(json!({"strategy": {"steps": steps}}))
    };
    let context = |context: Value| container(json!({"securityContext": context}));
    let volumes = |volume: Value| pod(json!({"volumes": [{"name": "data", "emptyDir": {}}, volume]}));
    for accepted in [
        deployment(json!({})),
        steps([10, 10]),
        drill(&confirmed),
        context(json!({"runAsUser": 1000, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}})),
        volumes(json!({"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}})),
        container(json!({"ports": [{"containerPort": 9000}]})),
        job(json!({})),
        job(json!({"securityContext": {"runAsUser": 1000}})),
    ] {
        assert_eq!(refusal(&namespace, &accepted), None, "{accepted}");
    }
    let privileges = "restricted Pod Security Standard";
    for (refused, why) in [
        (
            steps([50, 10]),
            "spec.strategy.steps: expected weightPercent to rise from step to step, found 50, 10",
        ),
        (drill("fraud"), &*format!("spec.faultReplay.confirm: expected {confirmed}")),
        (hostile.clone(), "hostNetwork, hostPID and hostIPC"),
        (pod(json!({"hostPID": true})), "hostNetwork, hostPID and hostIPC"),
        (pod(json!({"securityContext": {"runAsNonRoot": false}})), privileges),
        (context(json!({"privileged": true})), privileges),
        (context(json!({"runAsUser": 0})), privileges),
        (context(json!({"seccompProfile": {"type": "Unconfined"}})), privileges),
        (context(json!({"capabilities": {"add": ["SYS_ADMIN"]}})), privileges),
        (volumes(json!({"name": "node", "hostPath": {"path": "/"}})), "found data, node"),
        (container(json!({"ports": [{"containerPort": 1, "hostPort": 80}]})), "hostPort"),
        (job(json!({"securityContext": {"privileged": true}})), privileges),
        (job(json!({"podSecurityContext": {"runAsUser": 0}})), privileges),
    ] {
        let message = refusal(&namespace, &refused).unwrap_or_default();
        assert!(message.contains(why), "{refused}: {message}");
    }

    // A namespace may be trusted with privileges.
    let second = cluster.namespace();
    cluster.kubectl(&["label", "namespace", second.name(), "slipway.dev/allow-privileged=true"]).unwrap();
    assert_eq!(refusal(&second, &hostile), None);
    assert!(refusal(&second, &steps([50, 10])).is_some());
}

#[test]
fn objects_of_before_the_policy_can_be_labelled_and_deleted() {
    let Some(cluster) = cluster() else { return };
    let namespace = cluster.namespace();
    cluster.apply(&text("kubernetes/admission-policy.yaml")).unwrap();
    let broken = pod(json!({"hostIPC": true}));
    wait(&namespace, &broken);
    cluster.kubectl(&["label", "namespace", namespace.name(), "slipway.dev/allow-privileged=true"]).unwrap();
    while refusal(&namespace, &broken).is_some() {
        std::thread::sleep(Duration::from_millis(100));
    }
    namespace.apply(&broken.to_string()).unwrap();
    cluster.kubectl(&["label", "namespace", namespace.name(), "slipway.dev/allow-privileged-"]).unwrap();
    wait(&namespace, &broken);
    namespace.kubectl(&["label", "modeldeployment", "fraud", "team=risk"]).unwrap();
    namespace.kubectl(&["delete", "modeldeployment", "fraud", "--timeout=60s"]).unwrap();
}
