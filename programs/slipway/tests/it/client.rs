//! A user of the public APIs: registers models, deploys, rolls out, predicts, and keeps traffic running.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::platform::Platform;

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) registry: String,
    pub(crate) launcher: String,
    pub(crate) serving: String,
    pub(crate) controller: String,
    pub(crate) monitor: String,
}

impl Client {
    pub(crate) fn new(platform: &Platform) -> Self {
        Self::at(
            ["registry", "launcher", "serving_http", "rollout_controller", "drift_monitor"]
                .map(|service| platform.endpoint(service)),
        )
    }

    /// A client of the registry, launcher, serving, rollout controller and drift monitor at these URLs.
    pub(crate) fn at(urls: [String; 5]) -> Self {
        slipway_runtime::install_tls_provider();
        let [registry, launcher, serving, controller, monitor] = urls;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Self { http, registry, launcher, serving, controller, monitor }
    }

    /// The client with a token, which it sends to every service.
    pub(crate) fn with_token(self, token: &str) -> Self {
        let value = format!("Bearer {token}").parse().unwrap();
        let headers = [(http::header::AUTHORIZATION, value)].into_iter().collect();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).default_headers(headers);
        Self { http: http.build().unwrap(), ..self }
    }

    pub(crate) async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let status = response.status();
        let bytes = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn post(&self, url: &str, body: Value) -> Value {
        let (status, answer) = self.send(Method::POST, url, Some(&body)).await;
        assert!(status.is_success(), "POST {url}: {status}: {answer}");
        answer
    }

    pub(crate) async fn get(&self, url: &str) -> Value {
        let (status, answer) = self.send(Method::GET, url, None).await;
        assert!(status.is_success(), "GET {url}: {status}: {answer}");
        answer
    }

    pub(crate) async fn mlflow(&self, path: &str, body: Value) -> Value {
        self.post(&format!("{}/api/2.0/mlflow/{path}", self.registry), body).await
    }

    pub(crate) async fn put_artifact(&self, path: &str, bytes: Vec<u8>) -> StatusCode {
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.registry);
        self.http.put(url).body(bytes).send().await.unwrap().status()
    }

    /// A logged model with one ONNX file, as the MLflow client makes it; answers with its id.
    pub(crate) async fn log_model(&self, onnx: &[u8]) -> String {
        let description = "flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.19.0\n";
        self.log_files(&[("MLmodel", description.into()), ("model.onnx", onnx.to_vec())]).await
    }

    /// A logged model with these files, each under its name; answers with its id.
    async fn log_files(&self, files: &[(&str, Vec<u8>)]) -> String {
        let model = self.mlflow("logged-models", json!({"experiment_id": "0", "name": "model"})).await;
        let id = model["model"]["info"]["model_id"].as_str().unwrap().to_owned();
        let folder = format!("0/models/{id}/artifacts");
        for (name, bytes) in files {
            assert!(self.put_artifact(&format!("{folder}/{name}"), bytes.clone()).await.is_success());
        }
        let url = format!("{}/api/2.0/mlflow/logged-models/{id}", self.registry);
        let ready = json!({"model_id": id, "status": "LOGGED_MODEL_READY"});
        assert!(self.send(Method::PATCH, &url, Some(&ready)).await.0.is_success());
        id
    }

    /// Registers a version; refused or not.
    pub(crate) async fn try_register(&self, model: &str, onnx: &[u8]) -> (StatusCode, Value) {
        self.register_logged(model, &self.log_model(onnx).await).await
    }

    /// [`Self::try_register`] of a version with other files than an ONNX model.
    pub(crate) async fn try_register_files(
        &self,
        model: &str,
        files: &[(&str, Vec<u8>)],
    ) -> (StatusCode, Value) {
        self.register_logged(model, &self.log_files(files).await).await
    }

    async fn register_logged(&self, model: &str, id: &str) -> (StatusCode, Value) {
        let url = format!("{}/api/2.0/mlflow/registered-models/create", self.registry);
        let (status, answer) = self.send(Method::POST, &url, Some(&json!({"name": model}))).await;
        assert!(status.is_success() || answer["error_code"] == "RESOURCE_ALREADY_EXISTS", "{answer}");
        let url = format!("{}/api/2.0/mlflow/model-versions/create", self.registry);
        let body = json!({"name": model, "source": format!("models:/{id}"), "model_id": id});
        self.send(Method::POST, &url, Some(&body)).await
    }

    /// Registers a fixture as the next version of `model`; answers with its number.
    pub(crate) async fn register(&self, model: &str, fixture: &str) -> String {
        let (status, answer) = self.try_register(model, &fixture_bytes(fixture)).await;
        assert!(status.is_success(), "{status}: {answer}");
        answer["model_version"]["version"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn set_alias(&self, model: &str, alias: &str, version: &str) {
        self.mlflow("registered-models/alias", json!({"name": model, "alias": alias, "version": version}))
            .await;
    }

    /// Deploys version 1 under the model's name and waits until it answers.
    pub(crate) async fn deploy(&self, model: &str, strategy: Value) {
        let body = json!({
            "name": model, "model": model, "version": "1", "watch_alias": "champion",
                "default_strategy": strategy,
        });
        self.post(&format!("{}/api/v1/deployments", self.controller), body).await;
        self.wait_for_rollout(model, "1", "promoted").await;
        let started = Instant::now();
        while self.predict(model, 1.0, "warm").await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "version 1 does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Version and label of the answer; the features are `[first, 0]`.
    pub(crate) async fn predict(
        &self,
        deployment: &str,
        first: f32,
        id: &str,
    ) -> Result<(String, i64), String> {
        let url = format!("{}/v2/models/{deployment}/infer", self.serving);
        let body = json!({"id": id, "inputs": [
            {"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [first, 0.0]}
        ], "outputs": [{"name": "label"}]});
        // With its causes.
        let response = self.http.post(url).json(&body).send().await.map_err(|error| format!("{error:?}"))?;
        let status = response.status();
        let answer: Value = response.json().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {answer}"));
        }
        let label = answer["outputs"][0]["data"][0].as_i64().ok_or("no label")?;
        Ok((answer["model_version"].as_str().unwrap_or_default().to_owned(), label))
    }

    /// The newest rollout to `version`, when it is in `phase`; another end fails the test.
    pub(crate) async fn wait_for_rollout(&self, deployment: &str, version: &str, phase: &str) -> Value {
        let url = format!("{}/api/v1/rollouts?deployment={deployment}", self.controller);
        let mut last = Value::Null;
        for _ in 0..1200 {
            // The controller may be unreachable while it is killed: that is what some tests are for.
            if let Ok(response) = self.http.get(&url).send().await
                && let Ok(answer) = response.json::<Value>().await
            {
                let rollouts = answer["rollouts"].as_array().cloned().unwrap_or_default();
                last = rollouts
                    .into_iter()
                    .find(|rollout| rollout["to_version"] == version)
                    .unwrap_or(Value::Null);
                if last["phase"] == phase {
                    return last;
                }
                let ended =
                    ["promoted", "rolled_back", "failed", "aborted"].iter().any(|end| last["phase"] == *end);
                assert!(!ended, "the rollout of {version} was to be {phase}: {last}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited 60 s for the rollout of {version} to be {phase}; it is {last}");
    }

    /// Steady traffic with labels, until stopped.
    pub(crate) fn traffic(&self, deployment: &str) -> Traffic {
        let (client, deployment) = (self.clone(), deployment.to_owned());
        let shared = Arc::new(Counts::default());
        let counts = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            let mut number = 0u64;
            while !counts.stop.load(Ordering::Relaxed) {
                let first = if number.is_multiple_of(2) { 1.0 } else { -1.0 };
                let id = format!("t-{number}");
                match client.predict(&deployment, first, &id).await {
                    Ok(_) => counts.answered.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        failures.push(format!("request {number}: {error}"));
                        0
                    }
                };
                client.label(&deployment, &id, i64::from(first > 0.0)).await;
                number += 1;
                tokio::time::sleep(Duration::from_millis(8)).await;
            }
            failures
        });
        Traffic { shared, task }
    }

    /// Labels are refused while NATS is unreachable, with a clear answer; a labeller tries again, this one
    /// lets it be.
    async fn label(&self, deployment: &str, id: &str, label: i64) {
        let url = format!("{}/v1/deployments/{deployment}/labels", self.serving);
        let body = json!({"labels": [{"request_id": id, "label": label}]});
        let (http, id) = (self.http.clone(), id.to_owned());
        tokio::spawn(async move {
            if let Err(error) = http.post(url).json(&body).send().await {
                eprintln!("label {id}: {error}");
            }
        });
    }
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    answered: AtomicU64,
}

pub(crate) struct Traffic {
    shared: Arc<Counts>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Traffic {
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Ends it; answers with what failed.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

pub(crate) fn fixture_bytes(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/testkit/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Two steps, each held so long; verdicts come early.
pub(crate) fn strategy(hold_s: f64) -> Value {
    json!({
        "steps": [{"weight_percent": 20, "hold_s": hold_s}, {"weight_percent": 50, "hold_s": hold_s}],
        "shadow_percent": 100,
        "analysis": {
            "min_requests": 5, "min_labels": 20, "max_accuracy_drop": 0.05, "interval_ms": 200,
            "max_p95_latency_ratio": 50.0, "max_divergence": 1.0, "max_inconclusive_s": 120,
        },
        "prepare_timeout_s": 60,
    })
}
