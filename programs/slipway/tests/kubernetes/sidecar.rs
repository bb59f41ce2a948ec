//! Envoy as a sidecar.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use slipway_api::inference::ModelReadyRequest;
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_kubernetes_testkit::{Archive, Cluster, Level};
use slipway_testkit::TestAuthority;
use tonic::transport::Channel;

use crate::rollouts::{MODEL, immediate};
use crate::world::{World, manifest, on_a_cluster};

const IMAGE: &str = "registry.local/envoy:1";

/// Brings the image of Envoy to the node.
fn load_image() {
    static LOADED: std::sync::Once = std::sync::Once::new();
    LOADED.call_once(|| {
        let mut image = Archive::new(IMAGE);
        image.base_files().file("/usr/local/bin/envoy", &slipway_testkit::envoy()).unwrap();
        image.shared_libraries().unwrap();
        Cluster::shared(Level::Node).unwrap().load(&image).unwrap();
    });
}

/// Address and name of each pod.
fn pods(world: &World) -> Vec<(String, String)> {
    let found = world.found("pods");
    let pod = |pod: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&pod["status"]["podIP"]), text(&pod["metadata"]["name"]))
    };
    found["items"].as_array().unwrap().iter().map(pod).collect()
}

/// Requests that serving in a pod has answered.
async fn answered(world: &World, address: &str) -> u64 {
    let metrics = world.client.http.get(format!("http://{address}:8002/metrics")).send().await.unwrap();
    let text = metrics.text().await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with("nv_inference_request_success{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).map(|count| count as u64).sum()
}

/// The process of serving in a pod, by the name of the pod that it knows.
fn serving_of(pod: &str) -> PathBuf {
    let variable = format!("SLIPWAY_REPLICA_ID={pod}\0");
    let is_it = |process: &Path| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.windows(variable.len()).any(|window| window == variable.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    processes.into_iter().find(|process| is_it(process)).unwrap()
}

/// A gRPC client of the Service.
async fn grpc(world: &World) -> GrpcInferenceServiceClient<Channel> {
    let address = world.kubectl(&["get", "service", "fraud", "--output", "jsonpath={.spec.clusterIP}"]);
    GrpcInferenceServiceClient::connect(format!("http://{address}:8001")).await.unwrap()
}

async fn is_ready(grpc: &mut GrpcInferenceServiceClient<Channel>) -> bool {
    let request = ModelReadyRequest { name: "fraud".to_owned(), version: String::new() };
    grpc.model_ready(request).await.unwrap().into_inner().ready
}

#[test]
fn envoy_distributes_requests_over_pods_and_sends_those_that_fail_to_another_one() {
    on_a_cluster(async |mut world| {
        tokio::task::block_in_place(load_image);
        world.client.register(MODEL, "right-1.onnx").await;
        world.set(&[("SLIPWAY_OPERATOR_ENVOY_IMAGE", IMAGE)]).await;
        let mut further = immediate();
        further["replicas"] = json!({"min": 2});
        further["envoy"] = json!({"retries": 3});
        world.apply(&manifest(json!({"version": "1"}), &further));
        world.wait("condition=Ready");
        assert!(is_ready(&mut grpc(&world).await).await);

        // One connection, which a Service leads to one pod.
        let pods = pods(&world);
        assert_eq!(pods.len(), 2, "{pods:?}");
        let service = world.service();
        // An Envoy learns of the other pod when the name server does.
        let spread = async || {
            service.predict("fraud", 1.0, "spread").await.unwrap();
            let counts = [answered(&world, &pods[0].0).await, answered(&world, &pods[1].0).await];
            (counts[0] >= 5 && counts[1] >= 5).then_some(())
        };
        world.eventually("both pods have answered", spread).await;

        let traffic = service.traffic("fraud");
        for (_, pod) in &pods {
            let killed = serving_of(pod);
            let pid = killed.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
            let restarted = async || {
                let found = world.found(&format!("pod/{pod}"));
                let status = &found["status"]["containerStatuses"][0];
                (status["restartCount"] == 1 && status["ready"] == true).then_some(())
            };
            world.eventually(&format!("serving of {pod} runs again"), restarted).await;
        }
        assert!(traffic.answered() > 20, "{}", traffic.answered());
        assert_eq!(traffic.stop().await, [""; 0]);

        // Without it, the ports are serving's again, and no request fails on the way.
        let traffic = world.service().traffic("fraud");
        further.as_object_mut().unwrap().remove("envoy");
        world.apply(&manifest(json!({"version": "1"}), &further));
        let gone = async || (world.objects("services") == ["service/fraud"]).then_some(());
        world.eventually("the Service of the Envoys is gone", gone).await;
        assert_eq!(traffic.stop().await, [""; 0]);
    });
}

#[test]
fn envoy_has_the_certificate_and_uses_a_renewed_one() {
    on_a_cluster(async |mut world| {
        tokio::task::block_in_place(load_image);
        world.client.register(MODEL, "right-1.onnx").await;
        world.set(&[("SLIPWAY_OPERATOR_ENVOY_IMAGE", IMAGE)]).await;
        let secret = |authority: &TestAuthority| {
            let own = authority.issue("fraud");
            world.apply(&json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": "fraud-tls"}, "stringData": {"tls.crt": own.certificate,
                    "tls.key": own.key}}));
        };
        let (first, second) = (TestAuthority::new(), TestAuthority::new());
        secret(&first);
        let mut further = immediate();
        further["tls"] = json!({"secretName": "fraud-tls"});
        further["envoy"] = json!({});
        world.apply(&manifest(json!({"version": "1"}), &further));
        world.wait("condition=Ready");
        let address = world.kubectl(&["get", "service", "fraud", "--output", "jsonpath={.spec.clusterIP}"]);
        let asked = async |authority: &TestAuthority| {
            let trusted = reqwest::Certificate::from_pem(authority.certificate().as_bytes()).unwrap();
            let client = reqwest::Client::builder().tls_certs_only([trusted]);
            let client = client.resolve("fraud", format!("{address}:8000").parse().unwrap()).build().unwrap();
            let url = "https://fraud:8000/v2/models/fraud/infer";
            let body = json!({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2],
                "data": [1.0, 0.0]}]});
            let answer = client.post(url).json(&body).send().await.ok()?;
            answer.status().is_success().then_some(())
        };
        // kube-proxy learns of the pod a moment after it is ready.
        world.eventually("Envoy answers", async || asked(&first).await).await;
        assert_eq!(asked(&second).await, None);
        let pod = pods(&world).remove(0).0;
        let bypassed = world.client.http.get(format!("http://{pod}:9000/v2/health/live")).send().await;
        assert!(bypassed.is_err(), "a client bypasses Envoy");

        secret(&second);
        world.eventually("Envoy uses the renewed certificate", async || asked(&second).await).await;
        assert_eq!(pods(&world).remove(0).0, pod, "no pod was replaced");
    });
}
