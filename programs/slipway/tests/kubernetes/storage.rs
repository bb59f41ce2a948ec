//! Models from outside of the registry.

use std::time::Instant;

use serde_json::{Value, json};

use crate::rollouts::{answers, immediate};
use crate::world::{World, on_a_cluster};

/// A ModelDeployment `fraud` of what is at an address.
pub(crate) fn stored(uri: &str, watch: bool) -> Value {
    let mut spec = immediate();
    spec["model"] = json!({"storageUri": uri, "watch": watch});
    json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "fraud"},
        "spec": spec})
}

pub(crate) fn message(world: &World) -> String {
    world.found("md/fraud")["status"]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_is_in_a_bucket_is_deployed_and_new_content_is_rolled_out() {
    on_a_cluster(async |world| {
        let uri = world.store_outside("fraud/1/model.onnx", "right-1.onnx").await;
        let uri = uri.trim_end_matches("/1").to_owned();
        let applied = Instant::now();
        world.apply(&stored(&uri, true));
        world.wait("condition=Ready");
        println!("apply to Ready with an import: {:.1} s", applied.elapsed().as_secs_f64());
        answers(&world, "1").await;
        let model = format!("{}.fraud", world.namespace.name());
        let versions = format!("{}/api/v1/models/{model}/versions", world.client.registry);
        let tags = world.client.get(&format!("{versions}/1")).await["tags"].clone();
        assert_eq!(tags["slipway.import_uri"], json!(uri), "{tags}");

        let traffic = world.service().traffic("fraud");
        let stored_at = Instant::now();
        world.store_outside("fraud/1/model.onnx", "right-2.onnx").await;
        answers(&world, "2").await;
        println!("new bytes to first answer: {:.1} s", stored_at.elapsed().as_secs_f64());
        // The content before is the version before.
        world.store_outside("fraud/1/model.onnx", "right-1.onnx").await;
        answers(&world, "1").await;
        let listed = world.client.get(&versions).await;
        assert_eq!(listed["versions"].as_array().unwrap().len(), 2, "{listed}");
        assert_eq!(traffic.stop().await, [""; 0]);
    });
}

#[test]
fn an_address_that_is_not_allowed_or_has_nothing_is_told() {
    on_a_cluster(async |world| {
        world.apply(&stored("s3://elsewhere/fraud", false));
        world.wait("condition=Degraded");
        let refused = message(&world);
        assert!(refused.starts_with("spec.model.storageUri: models may not be imported"), "{refused}");
        let uri = world.store_outside("other/model.onnx", "right-1.onnx").await;
        let nothing = uri.replace("/other", "/nothing");
        world.apply(&stored(&nothing, false));
        let told = async || message(&world).contains("there is no object at").then_some(());
        world.eventually("the status says what is missing", told).await;
        world.store_outside("nothing/model.onnx", "right-1.onnx").await;
        world.wait("condition=Ready");
    });
}

#[test]
fn a_version_is_found_by_its_digest() {
    on_a_cluster(async |world| {
        for fixture in ["right-1.onnx", "right-2.onnx"] {
            world.client.register("fraud-model", fixture).await;
        }
        let url = format!("{}/api/v1/models/fraud-model/versions/2", world.client.registry);
        let digest = world.client.get(&url).await["digest"].clone();
        let mut object = stored("", false);
        object["spec"]["model"] = json!({"name": "fraud-model", "digest": digest});
        world.apply(&object);
        world.wait("condition=Ready");
        answers(&world, "2").await;
        object["spec"]["model"]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
        world.apply(&object);
        world.wait("condition=Degraded");
        assert!(message(&world).contains("has no version with digest"), "{}", message(&world));
    });
}
