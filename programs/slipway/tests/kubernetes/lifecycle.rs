//! From the creation of an object to its deletion.

use serde_json::{Value, json};

use crate::world::{LIMIT, manifest, on_a_cluster};

#[test]
fn what_is_wrong_is_refused_with_the_field() {
    on_a_cluster(async |world| {
        let of = |model: Value, further: Value| manifest(model, &further);
        let version = || json!({"version": "1"});
        let mut named = of(version(), json!({}));
        named["metadata"]["name"] = json!("fraud.v2");
        for (manifest, expected) in [
            (of(json!({}), json!({})), "expected exactly one of version, alias, digest, storageUri"),
            (of(json!({"storageUri": "ftp://a/b"}), json!({})), "spec.model.storageUri"),
            (of(json!({"version": "1", "watch": true}), json!({})), "watch: expected storageUri, too"),
            (
                of(version(), json!({"scaling": {"scaleToZeroAfterSeconds": 5}, "tls": {"secretName": "a"}})),
                "not with tls",
            ),
            (of(version(), json!({"route": {"gateways": [{"name": "g"}]}})), "expected hostnames"),
            (of(json!({"version": "1", "alias": "a"}), json!({})), "expected exactly one of version, alias"),
            (of(version(), json!({"replicas": {"min": 0}})), "spec.replicas.min"),
            (of(version(), json!({"replicas": {"min": 3, "max": 2}})), "max: expected at least min"),
            (of(version(), json!({"replica": 2})), "replica"),
            (of(version(), json!({"resources": {"memory": "8GB"}})), "spec.resources.memory"),
            (of(version(), json!({"scaling": {"metric": "requests"}})), "spec.scaling.metric"),
            (of(version(), json!({"env": {"LD_PRELOAD": "x"}})), "names begin with SLIPWAY_"),
            (of(version(), json!({"podLabels": {"slipway.dev/x": "y"}})), "set by Slipway"),
            (named, "metadata.name: expected at most 45"),
        ] {
            let message = world.refused(&manifest);
            assert!(message.contains(expected), "{manifest}: {message}");
        }

        // What only the operator knows is in the status, and can be corrected.
        world.client.register("fraud-model", "right-1.onnx").await;
        world.apply(&of(json!({"version": "7"}), json!({"tolerations": [{"kay": "gpu"}]})));
        world.wait("condition=Degraded");
        let message = world.found("md/fraud")["status"]["conditions"][0]["message"].clone();
        let message = message.as_str().unwrap();
        assert!(message.starts_with("spec."), "{message}");
        world.apply(&of(version(), json!({"strategy": {"steps": []}})));
        world.wait("condition=Ready");
        world.wait("condition=Degraded=False");
        let renamed = json!([{"op": "replace", "path": "/spec/model/name", "value": "other"}]).to_string();
        let patch = ["patch", "md", "fraud", "--type=json", "--patch", &renamed];
        let refused =
            tokio::task::block_in_place(|| world.namespace.kubectl(&patch).unwrap_err().to_string());
        assert!(refused.contains("another model needs another ModelDeployment"), "{refused}");
    });
}

#[test]
fn deleting_an_object_leaves_nothing_and_fails_no_request_before() {
    on_a_cluster(async |world| {
        world.client.register("fraud-model", "right-1.onnx").await;
        world.apply(&manifest(json!({"version": "1"}), &json!({"replicas": {"min": 2}})));
        world.wait("condition=Ready");
        assert_eq!(world.found("md/fraud")["status"]["readyReplicas"], 2);
        world.kubectl(&["delete", "md", "fraud", LIMIT]);
        let url = format!("{}/api/v1/deployments", world.client.controller);
        assert_eq!(world.client.get(&url).await["deployments"], json!([]));
        let kinds = "deployments,pods,services,poddisruptionbudgets,networkpolicies,serviceaccounts";
        let gone = async || world.objects(kinds).is_empty().then_some(());
        world.eventually("nothing is left", gone).await;

        // The same name is another object, and another deployment.
        world.apply(&manifest(json!({"version": "1"}), &json!({})));
        world.wait("condition=Ready");
        world.kill_operator();
        let deletion = ["delete", "md", "fraud", "--wait=false"];
        world.kubectl(&deletion);
        world.start_operator().await;
        let gone = async || world.objects(kinds).is_empty().then_some(());
        world.eventually("nothing is left after a restart of the operator", gone).await;
    });
}
