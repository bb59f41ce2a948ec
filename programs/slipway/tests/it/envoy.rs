//! The configuration of Envoy that people copy, with the real Envoy in front of two replicas.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_testkit::{TestAuthority, free_port};

use crate::client::fixture_bytes;

const CONFIG: &str = include_str!("../../../../deploy/envoy/gateway.yaml");
const PATIENCE: Duration = Duration::from_secs(60);

/// Ended when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command, log: &Path) -> Process {
    let log = std::fs::File::create(log).unwrap();
    let command = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Process(command.spawn().unwrap())
}

/// A replica that serves the models of a folder; its ports for REST and gRPC.
fn replica(folder: &Path, name: &str) -> (Process, [u16; 2]) {
    let ports = [free_port().unwrap(), free_port().unwrap()];
    let listen = |port: u16| format!("127.0.0.1:{port}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.args(["service", "serving", "--model-dir"]).arg(folder.join("models"));
    command
        .env("SLIPWAY_LISTEN", listen(ports[0]))
        .env("SLIPWAY_LISTEN_GRPC", listen(ports[1]))
        .env("SLIPWAY_LISTEN_METRICS", "127.0.0.1:0")
        .env("SLIPWAY_ALLOWED_HOSTS", "localhost,serving_grpc")
        .env("SLIPWAY_CACHE_DIR", folder.join(format!("cache-{name}")))
        .env("SLIPWAY_ONNXRUNTIME_LIB", slipway_testkit::onnxruntime_library());
    (run(&mut command, &folder.join(format!("{name}.log"))), ports)
}

/// The configuration for these replicas.
fn config(folder: &Path, port: u16, replicas: [[u16; 2]; 2]) -> String {
    let mut text = CONFIG.replace("/etc/envoy/tls", folder.to_str().unwrap());
    text = text.replace("0.0.0.0, port_value: 8443", &format!("127.0.0.1, port_value: {port}"));
    for (number, ports) in replicas.iter().enumerate() {
        for (standard, port) in [8_000, 8_001].into_iter().zip(ports) {
            let from = format!("serving-{number}, port_value: {standard}");
            assert!(text.contains(&from), "{from}");
            text = text.replace(&from, &format!("127.0.0.1, port_value: {port}"));
        }
    }
    text
}

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_behind_envoy_costs_no_request() {
    slipway_runtime::install_tls_provider();
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("models/m/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("model.onnx"), fixture_bytes("right-1.onnx")).unwrap();
    let authority = TestAuthority::new();
    let certificate = authority.issue("localhost");
    std::fs::write(folder.path().join("tls.crt"), &certificate.certificate).unwrap();
    std::fs::write(folder.path().join("tls.key"), &certificate.key).unwrap();
    let (mut first, first_ports) = replica(folder.path(), "first");
    let (_second, second_ports) = replica(folder.path(), "second");
    let port = free_port().unwrap();
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, config(folder.path(), port, [first_ports, second_ports])).unwrap();
    let mut envoy = Command::new(slipway_testkit::envoy());
    envoy.arg("--config-path").arg(&file).args(["--concurrency", "1", "--disable-hot-restart"]);
    let _envoy = run(&mut envoy, &folder.path().join("envoy.log"));

    let trusted = reqwest::Certificate::from_pem(authority.certificate().as_bytes()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([trusted]).timeout(PATIENCE).build().unwrap();
    let url = format!("https://localhost:{port}/v2/models/m/infer");
    let body =
        json!({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 0.0]}]});
    let ask = async || {
        let response = http.post(&url).json(&body).send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        let answer: Value = response.json().await.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(answer) } else { Err(format!("{status}: {answer}")) }
    };
    // Both replicas have to be there.
    for ports in [first_ports, second_ports] {
        let ready = format!("http://127.0.0.1:{}/v2/health/ready", ports[0]);
        let is_ready =
            async || http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success());
        eventually("a replica is ready", is_ready).await;
    }
    eventually("Envoy answers", async || ask().await.is_ok()).await;
    let mut failed = Vec::new();
    for number in 0..300 {
        if number == 100 {
            first.0.kill().unwrap();
        }
        if let Err(error) = ask().await {
            failed.push(format!("request {number}: {error}"));
        }
    }
    assert_eq!(failed, [""; 0]);
}
