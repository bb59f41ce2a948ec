//! Two replicas of the registry and one of serving, each with a client that never pauses.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use slipway_api::events::EVENTS_STREAM;
use slipway_event_bus::position::From;
use slipway_event_bus::{EventBus, NatsConfig};
use slipway_testkit::{TestBucket, TestNatsCluster, TestPostgres, free_port, onnx};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(240);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Between two requests of a client.
const REQUEST_INTERVAL: Duration = Duration::from_millis(40);

/// A process of a service; it ends when dropped.
pub(crate) struct Replica {
    child: Child,
    pub(crate) url: String,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Replica {
    pub(crate) async fn body(&self, path: &str) -> String {
        let answer = reqwest::get(format!("{}{path}", self.url)).await;
        match answer {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    pub(crate) async fn is_ready(&self) -> bool {
        reqwest::get(format!("{}/readyz", self.url)).await.is_ok_and(|answer| answer.status().is_success())
    }
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    created: AtomicUsize,
    predicted: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Seen {
    fn failed(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }
}

pub(crate) struct World {
    pub(crate) nats: TestNatsCluster,
    pub(crate) registries: Vec<Replica>,
    _serving: Replica,
    postgres: TestPostgres,
    bus: EventBus,
    seen: Arc<Seen>,
    clients: Vec<JoinHandle<()>>,
    dir: TempDir,
}

fn start(service: &str, dir: &Path, port: u16, settings: &[(&str, &str)]) -> Replica {
    let data = dir.join(format!("{service}-{port}"));
    std::fs::create_dir_all(&data).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .args(["service", service])
        .env("SLIPWAY_LISTEN", format!("127.0.0.1:{port}"))
        .env("SLIPWAY_NATS_REPLICAS", "3")
        .env("SLIPWAY_DATA_DIR", &data)
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(data.join("log")).unwrap())
        .spawn()
        .unwrap();
    Replica { child, url: format!("http://127.0.0.1:{port}") }
}

/// A folder with a model that returns its input.
fn models(dir: &Path) -> String {
    let mut graph = onnx::Graph::default();
    graph.input("x", onnx::FLOAT, &[None, Some(2)]);
    graph.node("Identity", &["x"], &["y"], &[]);
    graph.output("y", onnx::FLOAT);
    let version = dir.join("models/points/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("model.onnx"), graph.model(17)).unwrap();
    dir.join("models").display().to_string()
}

fn registry(dir: &Path, postgres: &str, nats: &str, s3: &TestBucket) -> Replica {
    let settings = [
        ("SLIPWAY_POSTGRES_URL", postgres),
        ("SLIPWAY_NATS_URL", nats),
        ("SLIPWAY_S3_ENDPOINT", &s3.endpoint),
        ("SLIPWAY_S3_BUCKET", &s3.bucket),
        ("SLIPWAY_S3_ACCESS_KEY", &s3.access_key),
        ("SLIPWAY_S3_SECRET_KEY", &s3.secret_key),
    ];
    start("registry", dir, free_port().unwrap(), &settings)
}

impl World {
    pub(crate) async fn start() -> Self {
        slipway_runtime::install_tls_provider();
        let (postgres, nats) = (slipway_testkit::own_postgres().await, slipway_testkit::nats_cluster().await);
        let (s3, dir) = (slipway_testkit::s3().await, tempfile::tempdir().unwrap());
        let bus = EventBus::connect(&NatsConfig { nats_url: nats.url.clone() }, "test").await.unwrap();
        let registries: Vec<Replica> =
            (0..2).map(|_| registry(dir.path(), &postgres.url, &nats.url, &s3)).collect();
        let (port, grpc, metrics) = (free_port().unwrap(), free_port().unwrap(), free_port().unwrap());
        let cache = dir.path().join("cache");
        let serving = start(
            "serving",
            dir.path(),
            port,
            &[
                ("SLIPWAY_NATS_URL", &nats.url),
                ("SLIPWAY_SERVING_MODEL_DIR", &models(dir.path())),
                ("SLIPWAY_CACHE_DIR", &cache.display().to_string()),
                ("SLIPWAY_ONNXRUNTIME_LIB", &slipway_testkit::onnxruntime_library().display().to_string()),
                ("SLIPWAY_LISTEN_GRPC", &format!("127.0.0.1:{grpc}")),
                ("SLIPWAY_LISTEN_METRICS", &format!("127.0.0.1:{metrics}")),
            ],
        );
        let mut world = Self {
            nats,
            registries,
            _serving: serving,
            postgres,
            bus,
            seen: Arc::default(),
            clients: Vec::new(),
            dir,
        };
        for number in 0..2 {
            world.wait_for("a ready registry", async |world| world.registries[number].is_ready().await).await;
        }
        world.wait_for("serving", async |world| world._serving.is_ready().await).await;
        world.clients = vec![world.create_experiments(), world.predict()];
        world.events_go_on("with three servers").await;
        world
    }

    pub(crate) async fn wait_for(&self, what: &str, done: impl AsyncFn(&Self) -> bool) {
        let started = Instant::now();
        while !done(self).await {
            let (failures, logs) = (self.seen.failures.lock().unwrap().clone(), self.dir.path().display());
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}; {failures:?}; logs in {logs}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Creates experiments through both replicas in turn.
    fn create_experiments(&self) -> JoinHandle<()> {
        let seen = Arc::clone(&self.seen);
        let path = "/api/2.0/mlflow/experiments/create";
        let urls: Vec<String> =
            self.registries.iter().map(|replica| format!("{}{path}", replica.url)).collect();
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            for number in 0.. {
                if seen.stop.load(Ordering::Relaxed) {
                    return;
                }
                let body = json!({ "name": format!("e-{number}") });
                match client.post(&urls[number % urls.len()]).json(&body).send().await {
                    Ok(answer) if answer.status().is_success() => {}
                    Ok(answer) => seen.failed(format!("e-{number}: {}", answer.status())),
                    Err(error) => seen.failed(format!("e-{number}: {error}")),
                }
                seen.created.store(number + 1, Ordering::Relaxed);
                tokio::time::sleep(REQUEST_INTERVAL).await;
            }
        })
    }

    fn predict(&self) -> JoinHandle<()> {
        let seen = Arc::clone(&self.seen);
        let url = format!("{}/v2/models/points/infer", self._serving.url);
        let input = json!({ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0] });
        let body = json!({ "inputs": [input] });
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            while !seen.stop.load(Ordering::Relaxed) {
                match client.post(&url).json(&body).send().await {
                    Ok(answer) if answer.status().is_success() => {}
                    Ok(answer) => seen.failed(format!("a prediction: {}", answer.status())),
                    Err(error) => seen.failed(format!("a prediction: {error}")),
                }
                seen.predicted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(REQUEST_INTERVAL).await;
            }
        })
    }

    /// Names of the experiments whose creation was published, in their order; `None` where NATS does not say.
    async fn published(&self) -> Option<Vec<String>> {
        let subjects = vec!["slipway.registry.experiment.created".to_owned()];
        let from = From::Time(SystemTime::UNIX_EPOCH);
        let page = self.bus.page(EVENTS_STREAM, subjects, from, usize::MAX).await.ok()?;
        let name = |body: &serde_json::Value| body["details"]["name"].as_str().unwrap().to_owned();
        Some(page.messages.iter().map(|found| name(&found.event.parse().unwrap())).collect())
    }

    /// Waits until an experiment that is created after now is published.
    pub(crate) async fn events_go_on(&mut self, during: &str) {
        let next = format!("e-{}", self.seen.created.load(Ordering::Relaxed) + 1);
        let what = format!("the event of {next}, {during}");
        self.wait_for(&what, async |world| {
            world.published().await.is_some_and(|names| names.contains(&next))
        })
        .await;
    }

    /// Ends the clients, and compares what they did with what was published and recorded.
    pub(crate) async fn end(mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.await.unwrap();
        }
        let (created, predicted) =
            (self.seen.created.load(Ordering::Relaxed), self.seen.predicted.load(Ordering::Relaxed));
        assert_eq!(*self.seen.failures.lock().unwrap(), [""; 0], "of {created} and {predicted} requests");
        let all: BTreeSet<String> = (0..created).map(|number| format!("e-{number}")).collect();
        // A server that has just returned may show less than is stored.
        let whole = Mutex::new(Vec::new());
        self.wait_for("every event", async |world| {
            let published = world.published().await.unwrap_or_default();
            let is_whole = all.iter().all(|name| published.contains(name));
            *whole.lock().unwrap() = published;
            is_whole
        })
        .await;
        assert_eq!(whole.lock().unwrap().len(), created, "an event is stored twice");
        let trail = "SELECT count(*) FROM registry.audit WHERE entity = 'experiment' AND what = 'created'";
        let mut connection = PgConnection::connect(&self.postgres.url).await.unwrap();
        let rows: i64 = sqlx::query_scalar(trail).fetch_one(&mut connection).await.unwrap();
        assert_eq!(usize::try_from(rows).unwrap(), created, "rows of the audit trail");
        eprintln!("{created} experiments and {predicted} predictions, none failed");
    }
}
