//! A registry of its own for each side of an import, and a client of it.

use std::time::{Duration, Instant};

use clap::Parser as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_mlflow_import::{Counts, Importer, Kind, Options, Progress, Registry};
use slipway_testkit::TestNats;
use tokio_util::sync::CancellationToken;

pub(crate) const ADMIN_TOKEN: &str = "the-administrators-own-token-of-the-tests";

#[derive(clap::Parser)]
struct Settings {
    #[command(flatten)]
    config: slipway_registry::Config,
}

/// A registry with its own database, NATS and bucket.
pub(crate) struct Server {
    pub(crate) url: String,
    token: Option<&'static str>,
    http: reqwest::Client,
    shutdown: CancellationToken,
    _nats: TestNats,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[], None).await
    }

    /// With access control on.
    pub(crate) async fn guarded() -> Self {
        Self::with(&["--auth=on", &format!("--admin-token={ADMIN_TOKEN}")], Some(ADMIN_TOKEN)).await
    }

    async fn with(more: &[&str], token: Option<&'static str>) -> Self {
        let (database, nats) = (slipway_testkit::postgres().await.url, slipway_testkit::nats().await);
        let bucket = slipway_testkit::s3().await;
        let port = slipway_testkit::free_port().unwrap();
        let arguments = [
            "registry".to_owned(),
            format!("--listen=127.0.0.1:{port}"),
            format!("--postgres-url={database}"),
            format!("--nats-url={}", nats.url),
            format!("--s3-endpoint={}", bucket.endpoint),
            format!("--s3-bucket={}", bucket.bucket),
            format!("--s3-access-key={}", bucket.access_key),
            format!("--s3-secret-key={}", bucket.secret_key),
        ];
        let more = more.iter().map(|argument| (*argument).to_owned());
        let config = Settings::parse_from(arguments.into_iter().chain(more)).config;
        let shutdown = CancellationToken::new();
        tokio::spawn(slipway_registry::run(config, shutdown.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = Self {
            url: format!("http://127.0.0.1:{port}"),
            token,
            http: reqwest::Client::new(),
            shutdown,
            _nats: nats,
        };
        server.wait_until_ready().await;
        server
    }

    async fn wait_until_ready(&self) {
        let (started, url) = (Instant::now(), format!("{}/readyz", self.url));
        while !self.http.get(&url).send().await.is_ok_and(|answer| answer.status() == StatusCode::OK) {
            assert!(started.elapsed() < Duration::from_secs(60), "the registry is not ready");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    /// A call of MLflow's API that has to succeed.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let path = format!("/api/2.0/mlflow/{path}");
        let (status, answer) = self.send(Method::POST, &path, body.to_string().into()).await;
        assert!(status.is_success(), "{path}: {status}: {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, Vec::new()).await
    }

    pub(crate) async fn experiment(&self, name: &str) -> String {
        let made = self.post("experiments/create", json!({ "name": name })).await;
        made["experiment_id"].as_str().unwrap().to_owned()
    }

    /// A finished run with `points` of one metric and one artifact; its ID.
    pub(crate) async fn run(&self, experiment: &str, points: u32) -> String {
        let made = self.post("runs/create", json!({"experiment_id": experiment, "start_time": 1})).await;
        let run = made["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        let metrics: Vec<Value> = (0..points)
            .map(|step| json!({"key": "loss", "value": step, "timestamp": step, "step": step}))
            .collect();
        self.post("runs/log-batch", json!({"run_id": run, "metrics": metrics})).await;
        let path =
            format!("/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/model/weights.bin");
        let (status, answer) = self.send(Method::PUT, &path, run.clone().into_bytes()).await;
        assert!(status.is_success(), "{status}: {answer}");
        self.post("runs/update", json!({"run_id": run, "status": "FINISHED", "end_time": 2})).await;
        run
    }

    /// A registered model with one version, made of the files of a run.
    pub(crate) async fn model(&self, name: &str, run: &str) {
        self.post("registered-models/create", json!({ "name": name })).await;
        let source = format!("runs:/{run}/model");
        self.post("model-versions/create", json!({"name": name, "source": source, "run_id": run})).await;
    }

    /// Names of the experiments, sorted, without the default one.
    pub(crate) async fn experiments(&self) -> Vec<String> {
        let found = self.post("experiments/search", json!({"view_type": "ALL", "max_results": 100})).await;
        let mut names: Vec<String> = items(&found, "experiments", "name");
        names.retain(|name| name != "Default");
        names.sort();
        names
    }

    /// Names of the registered models, sorted.
    pub(crate) async fn models(&self) -> Vec<String> {
        let (_, found) = self.get("/api/2.0/mlflow/registered-models/search?max_results=100").await;
        let mut names = items(&found, "registered_models", "name");
        names.sort();
        names
    }

    /// The run, or `Null` if there is none of this ID.
    pub(crate) async fn find_run(&self, run: &str) -> Value {
        self.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await.1["run"].clone()
    }

    /// Number of points that the run has of the metric.
    pub(crate) async fn points(&self, run: &str) -> usize {
        let path = format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss");
        self.get(&path).await.1["metrics"].as_array().map_or(0, Vec::len)
    }

    /// Digest over the files of version 1 of a model.
    pub(crate) async fn digest(&self, model: &str) -> Value {
        self.get(&format!("/api/v1/models/{model}/versions/1")).await.1["digest"].clone()
    }

    /// This server as the target of an import, with its token.
    pub(crate) fn target(&self) -> Registry {
        Registry { address: self.url.clone(), token: self.token.map(Into::into) }
    }
}

fn items(answer: &Value, list: &str, field: &str) -> Vec<String> {
    let items = answer[list].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

/// Options that copy everything.
pub(crate) fn everything(source: &str) -> Options {
    Options {
        source: source.to_owned(),
        experiments: vec![],
        models: vec![],
        skip_artifacts: false,
        dry_run: false,
        concurrency: 4,
    }
}

/// Imports, which has to succeed completely; its counts.
pub(crate) async fn import(options: Options, target: &Server) -> Progress {
    let importer = Importer::new(options, &target.target()).unwrap();
    importer.run().await.unwrap();
    let summary = importer.summary();
    assert!(summary.is_complete(), "{summary:?}");
    summary.progress
}

pub(crate) fn counts(progress: &Progress, kind: Kind) -> Counts {
    progress.counts.iter().find(|(found, _)| *found == kind).unwrap().1
}
