//! A registry of one's own, and a client of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser as _;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use slipway_api::events::EVENTS_STREAM;
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_event_bus::{EventBus, NatsConfig, Received, records};
use slipway_testkit::{TestBucket, TestNats};
use tokio_util::sync::CancellationToken;

use crate::line::Line;
use crate::schema;

pub(crate) const MODEL: &[u8] = include_bytes!("../../../../crates/testkit/fixtures/right-1.onnx");
pub(crate) const OTHER_MODEL: &[u8] = include_bytes!("../../../../crates/testkit/fixtures/wrong.onnx");

pub(crate) const ADMIN_TOKEN: &str = "the-administrators-own-token-of-the-tests";

#[derive(clap::Parser)]
struct Settings {
    #[command(flatten)]
    config: slipway_registry::Config,
}

/// The registry and everything that it stands on.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) database: String,
    nats: Arc<TestNats>,
    bucket: TestBucket,
    pub(crate) http: reqwest::Client,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    pub(crate) async fn begin() -> Self {
        let database = slipway_testkit::postgres().await.url;
        Self::on(&database).await
    }

    /// On a given Postgres.
    pub(crate) async fn on(database: &str) -> Self {
        let bucket = slipway_testkit::s3().await;
        Self::standing_on(database, Arc::new(slipway_testkit::nats().await), bucket, &[]).await
    }

    /// With access on, and further settings.
    pub(crate) async fn guarded(arguments: &[&str]) -> Self {
        let (database, bucket) = (slipway_testkit::postgres().await.url, slipway_testkit::s3().await);
        let token = format!("--admin-token={ADMIN_TOKEN}");
        let arguments = [&["--auth=on", &token], arguments].concat();
        Self::standing_on(&database, Arc::new(slipway_testkit::nats().await), bucket, &arguments).await
    }

    /// That imports from `outside/` of its bucket, and from these addresses.
    pub(crate) async fn importing(more: &str) -> Self {
        let (database, bucket) = (slipway_testkit::postgres().await.url, slipway_testkit::s3().await);
        let sources = format!("--import-sources=s3://{}/outside/,{more}", bucket.bucket);
        Self::standing_on(&database, Arc::new(slipway_testkit::nats().await), bucket, &[&sources]).await
    }

    /// That imports from these addresses, with further settings.
    pub(crate) async fn importing_with(sources: &str, arguments: &[&str]) -> Self {
        let (database, bucket) = (slipway_testkit::postgres().await.url, slipway_testkit::s3().await);
        let sources = format!("--import-sources={sources}");
        let arguments = [&[sources.as_str()], arguments].concat();
        Self::standing_on(&database, Arc::new(slipway_testkit::nats().await), bucket, &arguments).await
    }

    /// Stores an object in `outside/` of the bucket; the address of that place.
    pub(crate) async fn put_outside(&self, key: &str, bytes: &[u8]) -> String {
        let store = self.store();
        store.put_bytes(&format!("outside/{key}"), bytes::Bytes::copy_from_slice(bytes)).await.unwrap();
        format!("s3://{}/outside", self.bucket.bucket)
    }

    /// With the artifact store at the end of a line that can be cut.
    pub(crate) async fn with_line_to_store() -> (Self, Line) {
        let (database, mut bucket) = (slipway_testkit::postgres().await.url, slipway_testkit::s3().await);
        let line = Line::to(&bucket.endpoint).await;
        bucket.endpoint = line.url();
        let nats = Arc::new(slipway_testkit::nats().await);
        (Self::standing_on(&database, nats, bucket, &[]).await, line)
    }

    /// One more registry on the same Postgres, NATS and bucket.
    pub(crate) async fn replica(&self) -> Self {
        Self::standing_on(&self.database, Arc::clone(&self.nats), self.bucket.clone(), &[]).await
    }

    /// The same with access on.
    pub(crate) async fn guarded_replica(&self) -> Self {
        let token = format!("--admin-token={ADMIN_TOKEN}");
        let nats = Arc::clone(&self.nats);
        Self::standing_on(&self.database, nats, self.bucket.clone(), &["--auth=on", &token]).await
    }

    async fn standing_on(
        database: &str,
        nats: Arc<TestNats>,
        bucket: TestBucket,
        arguments: &[&str],
    ) -> Self {
        let port = slipway_testkit::free_port().unwrap();
        let config = settings(port, database, &nats, &bucket, arguments);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(slipway_registry::run(config, shutdown.clone()));
        slipway_runtime::install_tls_provider();
        let http = reqwest::Client::new();
        let url = format!("http://127.0.0.1:{port}");
        wait_until_ready(&http, &url).await;
        Self { url, database: database.to_owned(), nats, bucket, http, shutdown, running }
    }

    pub(crate) async fn raw(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.header("content-type", "application/json").body(body).send().await.unwrap()
    }

    pub(crate) async fn try_call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.raw(method, &format!("/api/2.0/mlflow/{path}"), body.to_string()).await;
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    /// A call that has to go well.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.try_call(method, path, body).await;
        assert!(status.is_success(), "{path}: {status}: {answer}");
        answer
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn get(&self, path_and_query: &str) -> Value {
        let response = self.raw(Method::GET, path_and_query, "").await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path_and_query}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// A refusal: its status, its code, and a text in its message.
    pub(crate) async fn refused(&self, method: Method, path: &str, body: Value, code: &str, text: &str) {
        let (status, answer) = self.try_call(method, path, body).await;
        assert!(!status.is_success(), "{path}: {answer}");
        assert_eq!(answer["error_code"], code, "{path}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(text), "{path}: {answer}");
    }

    pub(crate) async fn put_file(&self, path: &str, bytes: &[u8]) -> (StatusCode, String) {
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/{path}");
        let response = self.raw(Method::PUT, &path, bytes.to_vec()).await;
        (response.status(), response.text().await.unwrap())
    }

    pub(crate) async fn file(&self, path: &str) -> Response {
        self.raw(Method::GET, &format!("/api/2.0/mlflow-artifacts/artifacts/{path}"), "").await
    }

    pub(crate) async fn run(&self) -> String {
        let made = self.post("runs/create", json!({"experiment_id": "0", "start_time": 1})).await;
        made["run"]["info"]["run_id"].as_str().unwrap().to_owned()
    }

    /// A logged model with these files, as the client makes it; its id.
    pub(crate) async fn logged_model(&self, files: &[(&str, &[u8])]) -> String {
        let run = self.run().await;
        let body = json!({"experiment_id": "0", "name": "model", "source_run_id": run});
        let made = self.post("logged-models", body).await;
        let id = made["model"]["info"]["model_id"].as_str().unwrap().to_owned();
        for (name, bytes) in files {
            let (status, text) = self.put_file(&format!("0/models/{id}/artifacts/{name}"), bytes).await;
            assert!(status.is_success(), "{name}: {text}");
        }
        let ready = json!({"status": "LOGGED_MODEL_READY"});
        self.call(Method::PATCH, &format!("logged-models/{id}"), ready).await;
        id
    }

    /// A logged model that holds an ONNX file.
    pub(crate) async fn onnx_model(&self, onnx: &[u8]) -> String {
        let mlmodel = b"flavors:\n  onnx:\n    data: model.onnx\n";
        self.logged_model(&[("MLmodel", mlmodel), ("model.onnx", onnx)]).await
    }

    /// The next version of `name`, made from a logged model.
    pub(crate) async fn version(&self, name: &str, model_id: &str) -> (StatusCode, Value) {
        let _ = self.try_call(Method::POST, "registered-models/create", json!({ "name": name })).await;
        let body = json!({"name": name, "source": format!("models:/{model_id}"), "model_id": model_id});
        self.try_call(Method::POST, "model-versions/create", body).await
    }

    /// Asks again and again until it goes well.
    pub(crate) async fn post_until_it_goes_well(&self, path: &str, body: Value) {
        let started = Instant::now();
        while !self.try_call(Method::POST, path, body.clone()).await.0.is_success() {
            assert!(started.elapsed() < Duration::from_secs(30), "the registry does not recover");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Keys of a run's tags.
    pub(crate) async fn tags(&self, run: &str) -> BTreeSet<String> {
        let found = self.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
        let tags = found["run"]["data"]["tags"].as_array().cloned().unwrap_or_default();
        let keys = tags.iter().map(|tag| tag["key"].as_str().unwrap().to_owned());
        keys.filter(|key| !key.starts_with("mlflow.")).collect()
    }

    /// Waits until a run has so many more tags than now.
    pub(crate) async fn wait_for_tags(&self, run: &str, more: usize) {
        let (started, before) = (Instant::now(), self.tags(run).await.len());
        while self.tags(run).await.len() < before + more {
            assert!(started.elapsed() < Duration::from_secs(30), "the writers do not come on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An event of another service, as its relay publishes it.
    pub(crate) async fn publish_at(&self, subject: &str, entity: &str, time: &str, body: Vec<u8>) {
        let config = NatsConfig { nats_url: self.nats.url.clone() };
        let bus = EventBus::connect(&config, "other").await.unwrap();
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in [("ce-subject", entity), ("ce-time", time)] {
            headers.insert(name, value);
        }
        headers.insert("ce-id", uuid::Uuid::new_v4().to_string().as_str());
        let sent = bus.jetstream().publish_with_headers(subject.to_owned(), headers, body.into()).await;
        sent.unwrap().await.unwrap();
    }

    /// A client of this world's NATS.
    pub(crate) async fn bus(&self) -> EventBus {
        let bus = EventBus::connect(&NatsConfig { nats_url: self.nats.url.clone() }, "test").await.unwrap();
        assert!(bus.wait_for_resources(&CancellationToken::new()).await);
        bus
    }

    /// Every event so far of the subjects that begin so, once there are `count`; and what comes within a
    /// moment after.
    pub(crate) async fn events(&self, prefix: &str, count: usize) -> Vec<Received> {
        let config = NatsConfig { nats_url: self.nats.url.clone() };
        let bus = EventBus::connect(&config, "test").await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (sink, end, wanted) = (Arc::clone(&seen), CancellationToken::new(), prefix.to_owned());
        let until = end.clone();
        let reader = tokio::spawn(async move {
            records::read_from(&bus, EVENTS_STREAM, SystemTime::UNIX_EPOCH, &until, |message| {
                let received = Received::from_message(message);
                if received.subject.starts_with(&wanted) {
                    sink.lock().unwrap().push(received);
                }
            })
            .await;
        });
        let started = Instant::now();
        while seen.lock().unwrap().len() < count {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{} of {count} events",
                seen.lock().unwrap().len()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        end.cancel();
        reader.await.unwrap();
        let events = seen.lock().unwrap();
        events.iter().for_each(schema::check);
        events.clone()
    }
}

/// A registry in a process of its own, to kill.
pub(crate) struct Process {
    url: String,
    child: std::process::Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A client of it, with what `world` stands on.
    pub(crate) fn world(&self, world: &World) -> World {
        World {
            url: self.url.clone(),
            database: world.database.clone(),
            nats: Arc::clone(&world.nats),
            bucket: world.bucket.clone(),
            http: world.http.clone(),
            shutdown: CancellationToken::new(),
            running: tokio::spawn(async { Ok(()) }),
        }
    }
}

impl World {
    /// Stops this registry, and waits until it has ended; what it stands on stays.
    pub(crate) async fn stop(&self) {
        self.shutdown.cancel();
        let started = Instant::now();
        while !self.running.is_finished() {
            assert!(started.elapsed() < Duration::from_secs(30), "the registry does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One more registry on the same Postgres, NATS and bucket, in a process of its own.
    pub(crate) async fn process(&self) -> Process {
        let port = slipway_testkit::free_port().unwrap();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_slipway-registry"))
            .args(&arguments(port, &self.database, &self.nats, &self.bucket)[1..])
            .spawn()
            .unwrap();
        let process = Process { url: format!("http://127.0.0.1:{port}"), child };
        wait_until_ready(&self.http, &process.url).await;
        process
    }

    /// A column of text, from the registry's own database.
    pub(crate) async fn column(&self, query: &'static str) -> BTreeSet<String> {
        use sqlx::Connection as _;
        let mut db = sqlx::PgConnection::connect(&self.database).await.unwrap();
        sqlx::query_scalar(query).fetch_all(&mut db).await.unwrap().into_iter().collect()
    }

    /// The bucket that the registry keeps its bytes in.
    pub(crate) fn store(&self) -> ArtifactStore {
        ArtifactStore::new(&S3Config {
            s3_endpoint: self.bucket.endpoint.clone(),
            s3_region: "us-east-1".to_owned(),
            s3_bucket: self.bucket.bucket.clone(),
            s3_access_key: self.bucket.access_key.clone(),
            s3_secret_key: self.bucket.secret_key.clone().into(),
        })
    }

    /// The typed client of REST v1.
    pub(crate) fn client(&self) -> slipway_client::Registry {
        slipway_client::Client::new(&self.url).unwrap().into()
    }

    /// A refusal of REST v1: its status, and the field that it names.
    pub(crate) async fn refused_field(&self, method: Method, path: &str, body: Value, field: &str) {
        let (status, problem) = self.v1(method, path, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {problem}");
        assert_eq!(problem["field"], field, "{path}: {problem}");
        assert_eq!(problem["code"], "invalid-request", "{path}: {problem}");
    }

    /// A call of REST v1.
    pub(crate) async fn v1(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.raw(method, &format!("/api/v1/{path}"), body.to_string()).await;
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }
}

async fn wait_until_ready(http: &reqwest::Client, url: &str) {
    let started = Instant::now();
    while !http
        .get(format!("{url}/readyz"))
        .send()
        .await
        .is_ok_and(|answer| answer.status() == StatusCode::OK)
    {
        assert!(started.elapsed() < Duration::from_secs(30), "the registry is not ready");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn settings(
    port: u16,
    database: &str,
    nats: &TestNats,
    bucket: &TestBucket,
    more: &[&str],
) -> slipway_registry::Config {
    let more = more.iter().map(|argument| (*argument).to_owned());
    Settings::parse_from(arguments(port, database, nats, bucket).into_iter().chain(more)).config
}

fn arguments(port: u16, database: &str, nats: &TestNats, bucket: &TestBucket) -> Vec<String> {
    let retries = [
        "--webhook-allow-private",
        "--webhook-timeout-ms=1000",
        "--webhook-retry-initial-ms=40",
        "--webhook-max-attempts=4",
        "--retention-interval-s=1",
        "--drain-seconds=0.5",
    ];
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
    arguments.into_iter().chain(retries.map(str::to_owned)).collect()
}
