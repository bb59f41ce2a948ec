//! The objects stay as they are to be.

use serde_json::json;

use crate::world::{manifest, on_a_cluster};

#[test]
fn what_others_change_is_repaired_and_their_own_fields_stay() {
    on_a_cluster(async |world| {
        world.client.register("fraud-model", "right-1.onnx").await;
        world.apply(&manifest(json!({"version": "1"}), &json!({})));
        world.wait("condition=Ready");
        // The watches have told of what was applied.
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        world.kubectl(&["annotate", "deployment", "fraud", "note=foreign"]);
        world.kubectl(&["scale", "deployment", "fraud", "--replicas=3"]);
        let repaired = async || {
            let deployment = world.found("deployment/fraud");
            (deployment["spec"]["replicas"] == 1).then_some(deployment)
        };
        let deployment = world.eventually("the number of pods is that of the spec", repaired).await;
        assert_eq!(deployment["metadata"]["annotations"]["note"], "foreign");
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        for kind in ["service", "poddisruptionbudget", "networkpolicy"] {
            world.kubectl(&["delete", kind, "fraud"]);
        }
        let there = async || {
            let found = world.objects("services,poddisruptionbudgets,networkpolicies");
            (found.len() == 3).then_some(())
        };
        world.eventually("what was deleted is there again", there).await;
        // An idle operator writes nothing.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let writes = || {
            let requests = world.namespace.requests(crate::world::ACCOUNT).unwrap();
            requests.iter().filter(|request| !matches!(&*request.verb, "get" | "list" | "watch")).count()
        };
        let before = writes();
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        assert_eq!(writes(), before);
    });
}

#[test]
fn pods_are_added_up_to_the_maximum_by_an_autoscaler_that_goes_with_the_field() {
    on_a_cluster(async |world| {
        world.client.register("fraud-model", "right-1.onnx").await;
        let scaled = json!({"replicas": {"min": 1, "max": 3}, "scaling": {"metric": "cpu"}});
        world.apply(&manifest(json!({"version": "1"}), &scaled));
        world.wait("condition=Ready");
        let autoscaler = world.found("hpa/fraud");
        assert_eq!(autoscaler["spec"]["maxReplicas"], 3, "{autoscaler:#}");
        world.kubectl(&["scale", "md", "fraud", "--replicas=2"]);
        world.wait("jsonpath={.status.readyReplicas}=2");
        let fixed = json!({"spec": {"replicas": {"min": 1, "max": null}}}).to_string();
        world.kubectl(&["patch", "md", "fraud", "--type=merge", "--patch", &fixed]);
        let gone = async || world.objects("hpa").is_empty().then_some(());
        world.eventually("the autoscaler is gone", gone).await;
        world.wait("jsonpath={.status.readyReplicas}=1");
    });
}
