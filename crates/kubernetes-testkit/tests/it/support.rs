//! Manifests, and waiting for conditions.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{BUSYBOX_IMAGE, TestNamespace};

/// For a machine whose CPUs are all taken.
const LIMIT: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(200);
pub(crate) const KUBECTL_LIMIT: &str = "--timeout=600s";

/// A Job with one container, whose `spec` has more fields.
pub(crate) fn job(name: &str, spec: Value) -> Value {
    let mut all = json!({
        "backoffLimit": 0,
        "template": { "spec": pod_spec(&["true"]) },
    });
    if let (Some(all), Value::Object(spec)) = (all.as_object_mut(), spec) {
        all.extend(spec);
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name },
        "spec": all,
    })
}

/// A pod that runs one command.
pub(crate) fn pod(name: &str, command: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": pod_spec(command),
    })
}

fn pod_spec(command: &[&str]) -> Value {
    let container = json!({ "name": "main", "image": BUSYBOX_IMAGE, "command": command });
    json!({ "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container] })
}

/// Waits for a pod's phase.
pub(crate) fn wait_for_phase(namespace: &TestNamespace<'_>, pod: &str, phase: &str) {
    let condition = format!("--for=jsonpath={{.status.phase}}={phase}");
    namespace.kubectl(&["wait", &format!("pod/{pod}"), &condition, KUBECTL_LIMIT]).unwrap();
}

/// Waits until `find` finds something.
pub(crate) fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "no {what} after {} s", LIMIT.as_secs());
        std::thread::sleep(PAUSE);
    }
}
