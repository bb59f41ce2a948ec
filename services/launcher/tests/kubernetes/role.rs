//! The Role that people install is what the launcher uses, no more and no less.

use std::collections::BTreeSet;

use serde_json::json;
use slipway_kubernetes_testkit::{BUSYBOX_IMAGE, granted, unlimited_role, used};

use crate::account::{ACCOUNT, ROLE};
use crate::world::{Setup, World, with};

/// What the Role grants.
fn granted_by(role: &str) -> BTreeSet<String> {
    granted(&serde_saphyr::from_str(role).unwrap())
}

/// The permissions that the launcher of this world has made use of.
fn used_by(world: &World) -> BTreeSet<String> {
    used(&world.namespace.requests(ACCOUNT).unwrap())
}

#[test]
fn the_role_is_what_the_launcher_asks_of_the_api_server() {
    with(
        &Setup { role: Some(&unlimited_role(ACCOUNT)), training_jobs: true, ..Setup::default() },
        async |world| {
            let script = "sleep 1";
            let ended = world.submit(script, json!({}), json!({})).await;
            let distributed = world.submit(script, json!({}), json!({"replicas": {"worker": 2}})).await;
            let waiting = world.submit(script, json!({"resources": {"gpus": 9}}), json!({})).await;
            let resource = json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": "train"}, "spec": {"image": BUSYBOX_IMAGE, "command": ["true"]}});
            world.apply(&resource);
            world.pending(&waiting, "Insufficient nvidia.com/gpu").await;
            world.launcher.cancel(&waiting).await;
            for (job, status) in [(&ended, "succeeded"), (&distributed, "succeeded"), (&waiting, "cancelled")]
            {
                world.launcher.ended(job, status).await;
            }
            world.kubectl(&["wait", "tj/train", "--for=condition=Complete", "--timeout=120s"]);
            let same = async || (used_by(&world) == granted_by(ROLE)).then_some(());
            let settled = world.launcher.eventually("the Role is used up", same);
            if tokio::time::timeout(std::time::Duration::from_secs(30), settled).await.is_err() {
                assert_eq!(used_by(&world), granted_by(ROLE));
            }
        },
    );
}
