//! The Role that people install is what the operator uses, no more and no less.

use std::collections::BTreeSet;

use serde_json::json;
use slipway_kubernetes_testkit::{granted, unlimited_role, used};

use crate::world::{ACCOUNT, LIMIT, ROLE, World, manifest, with_role};

/// A Role for kinds that not every ModelDeployment needs.
const EDGE_ROLE: &str = include_str!("../../../../deploy/kubernetes/operator-edge-role.yaml");
/// What every account may: look which kinds there are, and ask what it may.
const FOR_ALL: [&str; 2] = ["get .", "create selfsubjectaccessreviews.authorization.k8s.io"];

fn used_by(world: &World) -> BTreeSet<String> {
    let mut used = used(&world.namespace.requests(ACCOUNT).unwrap());
    let edge = granted(&serde_saphyr::from_str(EDGE_ROLE).unwrap());
    used.retain(|rule| !edge.contains(rule) && !FOR_ALL.contains(&rule.as_str()));
    used
}

#[test]
fn the_role_is_what_the_operator_asks_of_the_api_server() {
    with_role(&unlimited_role(ACCOUNT), async |world| {
        world.client.register("fraud-model", "right-1.onnx").await;
        let scaled = json!({"replicas": {"min": 1, "max": 2}});
        world.apply(&manifest(json!({"version": "1"}), &scaled));
        world.wait("condition=Ready");
        // The pool of the namespace answers in place of pods.
        let asleep = json!({"replicas": {"min": 1, "max": 2}, "scaling": {"scaleToZeroAfterSeconds": 1}});
        world.apply(&manifest(json!({"version": "1"}), &asleep));
        let at_zero = async || {
            let ready = &world.found("md/fraud")["status"]["conditions"][0];
            (ready["reason"] == "ScaledToZero").then_some(())
        };
        world.eventually("it has scaled to zero", at_zero).await;
        // An account of its own instead, and a fixed number of pods.
        let fixed = json!({"serviceAccount": "default"});
        world.apply(&manifest(json!({"version": "1"}), &fixed));
        let gone = async || world.objects("hpa,serviceaccounts").is_empty().then_some(());
        world.eventually("what is not needed is gone", gone).await;
        world.kubectl(&["delete", "md", "fraud", LIMIT]);
        let granted = granted(&serde_saphyr::from_str(ROLE).unwrap());
        let same = async || (used_by(&world) == granted).then_some(());
        let settled = world.eventually("the Role is used up", same);
        if tokio::time::timeout(std::time::Duration::from_secs(30), settled).await.is_err() {
            assert_eq!(used_by(&world), granted);
        }
    });
}
