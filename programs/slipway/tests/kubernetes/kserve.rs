//! InferenceServices of KServe.

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{Cluster, Level};

use crate::client::Client;
use crate::world::{LIMIT, World, on_a_cluster};

const DEFINITION: &str = include_str!("../../../../deploy/kubernetes/inferenceservices.yaml");
const ROLE: &str = include_str!("../../../../deploy/kubernetes/kserve-role.yaml");

/// An operator that runs InferenceServices.
pub(crate) async fn compatible(world: &mut World) {
    let cluster = Cluster::shared(Level::Node).unwrap();
    tokio::task::block_in_place(|| {
        cluster.apply(DEFINITION).unwrap();
        let established = ["--for=condition=Established", "--timeout=60s"];
        let definition = "crd/inferenceservices.serving.kserve.io";
        cluster.kubectl(&[&["wait", definition][..], &established].concat()).unwrap();
    });
    world.allow("slipway-rollout-controller-kserve", ROLE);
    world.set(&[("SLIPWAY_KSERVE_COMPAT", "true")]).await;
}

fn service(predictor: Value) -> Value {
    json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "fraud"}, "spec": {"predictor": predictor}})
}

pub(crate) fn of_onnx(uri: &str, canary_percent: Option<u8>) -> Value {
    let mut predictor = json!({"model": {"modelFormat": {"name": "onnx"}, "storageUri": uri,
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}, "runtime": "kserve-tritonserver"}});
    if let Some(percent) = canary_percent {
        predictor["canaryTrafficPercent"] = json!(percent);
    }
    service(predictor)
}

/// The shares of the traffic, the newest version first.
fn shares(world: &World) -> Vec<u64> {
    let found = world.found("isvc/fraud");
    let traffic = found["status"]["components"]["predictor"]["traffic"].as_array().cloned();
    traffic.unwrap_or_default().iter().map(|share| share["percent"].as_u64().unwrap()).collect()
}

async fn reached(world: &World, expected: &[u64]) {
    let reached = async || (shares(world) == expected).then_some(());
    world.eventually(&format!("the traffic is split {expected:?}"), reached).await;
}

async fn version(client: &Client) -> String {
    client.predict("fraud", 1.0, "ask").await.unwrap().0
}

#[test]
fn an_inference_service_becomes_ready_and_keeps_a_canary_until_the_field_is_removed() {
    on_a_cluster(async |mut world| {
        compatible(&mut world).await;
        let first = world.store_outside("v1/model.onnx", "right-1.onnx").await;
        let second = world.store_outside("v2/model.onnx", "right-2.onnx").await;
        world.apply(&of_onnx(&first, None));
        world.kubectl(&["wait", "isvc/fraud", "--for=condition=Ready", LIMIT]);
        let status = world.found("isvc/fraud")["status"].clone();
        let namespace = world.namespace.name().to_owned();
        assert_eq!(status["url"], json!(format!("http://fraud.{namespace}")), "{status:#}");
        let ready = status["conditions"].as_array().unwrap().iter().find(|found| found["type"] == "Ready");
        let message = ready.unwrap()["message"].as_str().unwrap();
        assert!(message.contains("without effect: spec.predictor.model.runtime"), "{message}");
        let client = world.service();
        let served = async || client.predict("fraud", 1.0, "first").await.ok();
        assert_eq!(world.eventually("it answers", served).await, ("1".to_owned(), 1));
        // Port 80, version 1 of the protocol, and the name of KServe's predictor.
        let address = client.serving.trim_end_matches(":8000").to_owned();
        let asked = client.http.post(format!("{address}/v1/models/fraud:predict"));
        let asked = asked.header("host", format!("fraud-predictor.{namespace}.svc.cluster.local"));
        let answer = asked.json(&json!({"instances": [[1.0, 0.0]]})).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());

        let traffic = client.traffic("fraud");
        world.apply(&of_onnx(&second, Some(20)));
        reached(&world, &[20, 80]).await;
        world.apply(&of_onnx(&second, Some(60)));
        reached(&world, &[60, 40]).await;
        world.apply(&of_onnx(&second, None));
        reached(&world, &[100]).await;
        assert_eq!(version(&client).await, "2");
        let answered = traffic.answered();
        assert_eq!(traffic.stop().await, [""; 0], "of {answered} requests");

        world.kubectl(&["delete", "isvc", "fraud", LIMIT]);
        let gone =
            async || world.objects("modeldeployments,deployments,pods,services").is_empty().then_some(());
        world.eventually("nothing is left", gone).await;
    });
}

#[test]
fn what_cannot_be_run_is_told_in_the_condition() {
    on_a_cluster(async |mut world| {
        compatible(&mut world).await;
        let reason = async |expected: &str| {
            let found = async || {
                let conditions = world.found("isvc/fraud")["status"]["conditions"].to_string();
                conditions.contains(expected).then_some(())
            };
            world.eventually(expected, found).await;
        };
        world.apply(&service(json!({"sklearn": {"storageUri": "s3://models/a"}})));
        reason("spec.predictor.sklearn: the format sklearn is not served").await;
        let mut transformed = service(json!({"onnx": {"storageUri": "s3://models/a"}}));
        transformed["spec"]["transformer"] = json!({"containers": [{"name": "t", "image": "t"}]});
        world.apply(&transformed);
        reason("spec.transformer").await;
    });
}
