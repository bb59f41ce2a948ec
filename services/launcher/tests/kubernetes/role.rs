//! The Role that people install is what the launcher uses, no more and no less.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{BUSYBOX_IMAGE, Cluster, Level};

use crate::account::ROLE;
use crate::audit::requests;
use crate::world::{Setup, World, with};

/// May do everything in its namespace.
const EVERYTHING: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: slipway-launcher}
rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]
";

/// `verb resource.group` of each permission.
fn granted(role: &str) -> BTreeSet<String> {
    let role: Value = serde_saphyr::from_str(role).unwrap();
    let mut granted = BTreeSet::new();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                granted.extend(texts(&rule["verbs"]).iter().map(|verb| format!("{verb} {resource}.{group}")));
            }
        }
    }
    granted
}

/// The permissions that the launcher of this world has made use of.
fn used(world: &World) -> BTreeSet<String> {
    let cluster = Cluster::shared(Level::Node).unwrap();
    let mut used = BTreeSet::new();
    for request in requests(cluster, &world.namespace) {
        assert!(request.code < 400 || matches!(request.code, 404 | 409), "{request:?}");
        let what = format!("{}.{}", request.resource, request.group);
        used.insert(format!("{} {what}", request.verb));
        // A patch that creates an object is checked for both.
        if request.verb == "patch" && request.code == 201 {
            used.insert(format!("create {what}"));
        }
    }
    used
}

#[test]
fn the_role_is_what_the_launcher_asks_of_the_api_server() {
    with(&Setup { role: Some(EVERYTHING), training_jobs: true, ..Setup::default() }, async |world| {
        let script = "sleep 1";
        let ended = world.submit(script, json!({}), json!({})).await;
        let distributed = world.submit(script, json!({}), json!({"replicas": {"worker": 2}})).await;
        let waiting = world.submit(script, json!({"resources": {"gpus": 9}}), json!({})).await;
        let resource = json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": "train"}, "spec": {"image": BUSYBOX_IMAGE, "command": ["true"]}});
        world.apply(&resource);
        world.pending(&waiting, "Insufficient nvidia.com/gpu").await;
        world.launcher.cancel(&waiting).await;
        for (job, status) in [(&ended, "succeeded"), (&distributed, "succeeded"), (&waiting, "cancelled")] {
            world.launcher.ended(job, status).await;
        }
        world.kubectl(&["wait", "tj/train", "--for=condition=Complete", "--timeout=120s"]);
        let same = async || (used(&world) == granted(ROLE)).then_some(());
        let settled = world.launcher.eventually("the Role is used up", same);
        if tokio::time::timeout(std::time::Duration::from_secs(30), settled).await.is_err() {
            assert_eq!(used(&world), granted(ROLE));
        }
    });
}
