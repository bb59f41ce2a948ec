//! The number of pods follows what they report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_kubernetes_testkit::{Cluster, Level, NODE_ADDRESS};
use slipway_testkit::{TestAuthority, free_port};

use crate::rollouts::{MODEL, immediate};
use crate::world::{World, manifest, on_a_cluster};

/// The custom metrics API, as people install it.
const INSTALLED: &str = include_str!("../../../../deploy/kubernetes/custom-metrics.yaml");
const SERVICE: &str = "slipway-custom-metrics";
const API: &str = "/apis/custom.metrics.k8s.io/v1beta2";
/// Takes some milliseconds a row.
const SLOW: &str = "../../inference/tests/fixtures/slow.onnx";
const ROWS: usize = 4;
const CLIENTS: usize = 12;

/// The API, which leads to the operator until it is dropped. A cluster with an API that does not answer
/// deletes no namespace.
struct CustomMetrics {
    /// Asks the operator itself.
    direct: reqwest::Client,
    url: String,
}

impl CustomMetrics {
    /// Median time of an answer of the operator, in milliseconds.
    async fn answer_ms(&self, world: &World) -> f64 {
        let path = format!("{API}/namespaces/{}/pods/*/slipway_in_flight_requests", world.namespace.name());
        let mut times = Vec::new();
        for _ in 0..21 {
            let started = Instant::now();
            let response = self.direct.get(format!("{}{path}", self.url)).send().await.unwrap();
            assert!(response.status().is_success());
            response.bytes().await.unwrap();
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}

impl Drop for CustomMetrics {
    fn drop(&mut self) {
        let cluster = Cluster::shared(Level::Node).unwrap();
        let _ = cluster.kubectl(&["delete", "apiservice", "v1beta2.custom.metrics.k8s.io"]);
    }
}

fn kubectl(arguments: &[&str]) -> Result<String, String> {
    let cluster = Cluster::shared(Level::Node).unwrap();
    tokio::task::block_in_place(|| cluster.kubectl(arguments).map_err(|error| error.to_string()))
}

/// Starts the operator with the API, and has the API server know it.
async fn installed(world: &mut World) -> CustomMetrics {
    let (port, authority) = (free_port().unwrap(), TestAuthority::new());
    let namespace = world.namespace.name().to_owned();
    let host = format!("{SERVICE}.{namespace}.svc");
    let certificate = authority.issue(&host);
    let file = |name: &str, text: &str| {
        let path = world.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let settings = [
        ("SLIPWAY_OPERATOR_METRICS_LISTEN", format!("{NODE_ADDRESS}:{port}")),
        ("SLIPWAY_OPERATOR_METRICS_CERT", file("api.crt", &certificate.certificate)),
        ("SLIPWAY_OPERATOR_METRICS_KEY", file("api.key", &certificate.key)),
    ];
    world.more.extend(settings);
    world.kill_operator();
    world.start_operator().await;
    // The operator runs outside of the cluster, so its address is written down.
    world.apply(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": SERVICE, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4", "ports": [{"port": port, "name": "", "protocol": "TCP"}],
        "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": true}}]}));
    let bundle = base64(authority.certificate().as_bytes());
    let cluster = Cluster::shared(Level::Node).unwrap();
    for document in INSTALLED.split("---\n") {
        let mut object: Value = serde_saphyr::from_str(document).unwrap();
        match object["kind"].as_str() {
            Some("Service") => {
                object["metadata"]["namespace"] = json!(namespace);
                object["spec"].as_object_mut().unwrap().remove("selector");
            }
            Some("APIService") => {
                object["spec"]["caBundle"] = json!(bundle);
                object["spec"]["service"]["namespace"] = json!(namespace);
            }
            _ => {}
        }
        tokio::task::block_in_place(|| cluster.apply(&object.to_string()).unwrap());
    }
    let available = ["wait", "apiservice/v1beta2.custom.metrics.k8s.io", "--for=condition=Available"];
    kubectl(&[&available[..], &["--timeout=60s"]].concat()).unwrap();
    let trusted = reqwest::Certificate::from_pem(authority.certificate().as_bytes()).unwrap();
    let address = format!("{NODE_ADDRESS}:{port}").parse().unwrap();
    let direct = reqwest::Client::builder().tls_certs_only([trusted]).resolve(&host, address);
    CustomMetrics { direct: direct.build().unwrap(), url: format!("https://{host}:{port}") }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A metric of the pods, in thousandths, as the API server has it.
fn metric(world: &World, name: &str) -> Vec<i64> {
    let selector = "labelSelector=slipway.dev%2Fmodel-deployment%3Dfraud";
    let path = format!("{API}/namespaces/{}/pods/*/{name}?{selector}", world.namespace.name());
    let found: Value = serde_json::from_str(&kubectl(&["get", "--raw", &path]).unwrap()).unwrap();
    let value = |item: &Value| item["value"].as_str().unwrap().trim_end_matches('m').parse().unwrap();
    found["items"].as_array().unwrap().iter().map(value).collect()
}

/// Closed-loop clients: each sends its next request when the last one was answered.
struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn begin(world: &World) -> Self {
        let (stop, failed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let url = format!("{}/v2/models/fraud/infer", world.service().serving);
        let body = json!({"inputs": [
            {"name": "x", "shape": [ROWS, 1], "datatype": "FP32", "data": vec![2.0; ROWS]},
            {"name": "numbers", "shape": [ROWS, 1], "datatype": "INT64", "data": vec![1; ROWS]},
            {"name": "text", "shape": [ROWS, 1], "datatype": "BYTES", "data": vec!["a"; ROWS]},
            {"name": "flags", "shape": [ROWS], "datatype": "BOOL", "data": vec![true; ROWS]},
        ]});
        let client = || {
            let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
            let (url, body, http) = (url.clone(), body.clone(), reqwest::Client::new());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answered = http.post(&url).json(&body).send().await;
                    if !answered.is_ok_and(|response| response.status().is_success()) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let tasks = (0..CLIENTS).map(|_| client()).collect();
        Self { stop, failed, tasks }
    }

    /// Ends it; how many requests failed.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.failed.load(Ordering::Relaxed)
    }
}

#[test]
fn pods_are_added_for_concurrent_requests_and_removed_after_them() {
    on_a_cluster(async |mut world| {
        world.client.register(MODEL, SLOW).await;
        let api = installed(&mut world).await;
        let mut further = immediate();
        further["replicas"] = json!({"min": 1, "max": 3});
        further["scaling"] = json!({"metric": "concurrency", "target": 2, "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0}, "scaleDown": {"stabilizationWindowSeconds": 5}}});
        further["resources"] = json!({"cpus": 0.01, "memory": "512Mi"});
        world.apply(&manifest(json!({"version": "1"}), &further));
        world.wait("condition=Ready");
        let reported = async || (metric(&world, "slipway_in_flight_requests").len() == 1).then_some(());
        world.eventually("the pod reports", reported).await;
        let started = Instant::now();
        let load = Load::begin(&world);
        let busy = async || {
            let found = metric(&world, "slipway_in_flight_requests");
            (found.iter().sum::<i64>() > 2_000).then_some(())
        };
        world.eventually("the requests are seen", busy).await;
        assert!(metric(&world, "slipway_requests_per_second").iter().sum::<i64>() > 0);
        println!("the operator answers in {:.1} ms", api.answer_ms(&world).await);
        world.wait("jsonpath={.status.readyReplicas}=3");
        println!("1 to 3 pods in {:.1} s", started.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(load.end().await, 0, "failed requests");
        let url = format!("{}/metrics", world.client.controller);
        let shown = world.client.http.get(url).send().await.unwrap().text().await.unwrap();
        assert!(shown.contains("slipway_deployment_requests_per_second{deployment="), "{shown}");
        let ended = Instant::now();
        world.wait("jsonpath={.status.readyReplicas}=1");
        println!("3 to 1 pods in {:.1} s", ended.elapsed().as_secs_f64());
    });
}
