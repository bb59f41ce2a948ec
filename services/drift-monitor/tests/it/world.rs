//! A drift monitor of one's own, what it stands on, and clients of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::events::{EVENTS_STREAM, EventBody};
use slipway_api::predictions::{Origin, PredictionBatch, PredictionRecord, Sender, records_subject};
use slipway_event_bus::{EventBus, NatsConfig, Received, records};
use slipway_testkit::TestNats;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::data::{self, DEPLOYMENT, DEPLOYMENT_ID, FEATURES, MODEL};
use crate::peers::Peers;

const DEADLINE: Duration = Duration::from_secs(40);
/// What should not happen has this long to happen.
pub(crate) const MOMENT: Duration = Duration::from_millis(700);

#[derive(clap::Parser)]
struct Settings {
    #[command(flatten)]
    config: slipway_drift_monitor::Config,
}

/// The monitor and everything around it.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) nats: TestNats,
    pub(crate) peers: Peers,
    database: String,
    http: reqwest::Client,
    bus: EventBus,
    /// A runtime of its own, so that all of the service can end at once.
    process: Option<Runtime>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

impl World {
    pub(crate) async fn begin() -> Self {
        let database = slipway_testkit::postgres().await.url;
        Self::on(database).await
    }

    /// On a given Postgres.
    pub(crate) async fn on(database: String) -> Self {
        let (nats, peers) = (slipway_testkit::nats().await, Peers::start().await);
        slipway_runtime::install_tls_provider();
        let config = NatsConfig { nats_url: nats.url.clone() };
        let bus = EventBus::connect(&config, "test").await.unwrap();
        let mut world = Self {
            url: String::new(),
            nats,
            peers,
            database,
            http: reqwest::Client::new(),
            bus,
            process: None,
        };
        world.start().await;
        world
    }

    /// With version 1 deployed and its profile known.
    pub(crate) async fn with_baseline() -> Self {
        let world = Self::begin().await;
        world.deployed();
        world
    }

    pub(crate) fn deployed(&self) {
        self.peers.known().profiles.insert("1".into(), data::trained());
        self.peers.deploy("1");
    }

    /// Of a process of the service that listens on `port`.
    pub(crate) fn arguments(&self, port: u16) -> Vec<String> {
        vec![
            format!("--listen=127.0.0.1:{port}"),
            format!("--postgres-url={}", self.database),
            format!("--nats-url={}", self.nats.url),
            format!("--registry-url={}", self.peers.url()),
            format!("--rollout-controller-url={}", self.peers.url()),
            format!("--launcher-url={}", self.peers.launcher_url()),
        ]
    }

    /// Starts the service, on another port than before.
    pub(crate) async fn start(&mut self) {
        let port = slipway_testkit::free_port().unwrap();
        let arguments = [vec!["drift-monitor".to_owned()], self.arguments(port)].concat();
        let config = Settings::parse_from(arguments).config;
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let process = process.unwrap();
        process.spawn(slipway_drift_monitor::run(config, CancellationToken::new()));
        self.process = Some(process);
        self.url = format!("http://127.0.0.1:{port}");
        let started = Instant::now();
        loop {
            let ready = self.http.get(format!("{}/readyz", self.url)).send().await;
            if ready.is_ok_and(|response| response.status() == StatusCode::OK) {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "the drift monitor is not ready");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Ends the service at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("{}/api/v1/{path}", self.url)).json(&body);
        let response = request.send().await.unwrap();
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send(Method::GET, path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    pub(crate) async fn metrics(&self) -> String {
        self.http.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap()
    }

    /// Makes the monitor `m`; `change` is laid over the usual body.
    pub(crate) async fn monitor(&self, change: Value) -> Value {
        let mut body = json!({"name": "m", "deployment": DEPLOYMENT, "model": MODEL,
            "window": {"rows": 100, "max_s": 600}, "consecutive_windows": 2, "cool_down_s": 0});
        for (field, value) in change.as_object().unwrap() {
            body[field] = value.clone();
        }
        let (status, answer) = self.send(Method::POST, "monitors", body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer
    }

    /// Waits until the monitor is in that state.
    pub(crate) async fn state(&self, state: &str) -> Value {
        self.until(state, async || {
            Some(self.get("monitors/m").await).filter(|monitor| monitor["state"] == state)
        })
        .await
    }

    /// Waits until so many windows are closed, and a moment more; oldest first.
    pub(crate) async fn windows(&self, count: usize) -> Vec<Value> {
        self.until("the windows", async || self.closed(count).await).await;
        tokio::time::sleep(MOMENT).await;
        let windows = self.closed(count).await.unwrap();
        assert_eq!(windows.len(), count, "{windows:?}");
        windows
    }

    /// The same, from a service that may refuse for a while.
    pub(crate) async fn windows_after_faults(&self, count: usize) -> Vec<Value> {
        self.until("the service", async || {
            let (status, _) = self.send(Method::GET, "monitors/m", Value::Null).await;
            status.is_success().then_some(())
        })
        .await;
        self.windows(count).await
    }

    /// Waits until the test itself can publish again.
    pub(crate) async fn connected(&self) {
        self.until("NATS", async || self.bus.is_connected().then_some(())).await;
    }

    async fn closed(&self, count: usize) -> Option<Vec<Value>> {
        let mut answer = self.get("monitors/m/windows?limit=1000").await;
        let Value::Array(mut windows) = answer["windows"].take() else { return None };
        windows.reverse();
        Some(windows).filter(|windows| windows.len() >= count)
    }

    /// The monitor's actions, the newest first.
    pub(crate) async fn actions(&self) -> Vec<Value> {
        self.get("monitors/m/actions").await["actions"].as_array().cloned().unwrap()
    }

    /// Asks again and again until there is an answer.
    pub(crate) async fn until<T>(&self, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            if started.elapsed() > DEADLINE {
                let monitor = self.send(Method::GET, "monitors/m", Value::Null).await;
                panic!("{what} did not come: {monitor:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn publish(&self, records: Vec<PredictionRecord>) {
        let sender = Sender {
            origin: Origin::Controller,
            deployment_id: Some(DEPLOYMENT_ID.into()),
            ..Sender::default()
        };
        self.publish_from(sender, records).await;
    }

    /// Records of a given sender, on the subjects that it publishes on.
    pub(crate) async fn publish_from(&self, sender: Sender, records: Vec<PredictionRecord>) {
        let mut by_deployment = BTreeMap::<String, Vec<PredictionRecord>>::new();
        for record in records {
            by_deployment.entry(record.deployment.clone()).or_default().push(record);
        }
        for (deployment, records) in by_deployment {
            let sender = sender.clone();
            let subject = records_subject(&deployment, &sender);
            let batch = PredictionBatch {
                replica_id: "replica".into(),
                sender,
                records,
                ..PredictionBatch::default()
            };
            self.publish_bytes(&subject, serde_json::to_vec(&batch).unwrap()).await;
        }
    }

    /// Records of a version that does not record a tensor, or a place of its rows.
    pub(crate) async fn publish_redacted(&self, field: &str, records: Vec<PredictionRecord>) {
        let sender = Sender {
            origin: Origin::Controller,
            deployment_id: Some(DEPLOYMENT_ID.into()),
            ..Sender::default()
        };
        let subject = records_subject(DEPLOYMENT, &sender);
        let redacted = [field.to_owned()].into();
        let batch = PredictionBatch { replica_id: "replica".into(), sender, redacted, records };
        self.publish_bytes(&subject, serde_json::to_vec(&batch).unwrap()).await;
    }

    pub(crate) async fn publish_bytes(&self, subject: &str, bytes: Vec<u8>) {
        let stored = self.bus.jetstream().publish(subject.to_owned(), bytes.into()).await.unwrap();
        stored.await.unwrap();
    }

    /// One request of these rows, answered by the stable version.
    pub(crate) async fn predict(&self, rows: &[[f64; FEATURES]]) {
        self.publish(vec![data::record(rows)]).await;
    }

    /// An event of another service.
    pub(crate) async fn tell<E: EventBody>(&self, event: &E) {
        let id = uuid::Uuid::new_v4().to_string();
        let now = chrono::Utc::now().to_rfc3339();
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in [("Nats-Msg-Id", &id), ("ce-id", &id), ("ce-time", &now)] {
            headers.insert(name, value.as_str());
        }
        let body = serde_json::to_vec(event).unwrap();
        let stored =
            self.bus.jetstream().publish_with_headers(event.subject(), headers, body.into()).await.unwrap();
        stored.await.unwrap();
    }

    /// Every event so far of the subjects that begin so, once there are `count`; and what comes within a
    /// moment after.
    pub(crate) async fn events(&self, prefix: &str, count: usize) -> Vec<Received> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (sink, end, wanted) = (Arc::clone(&seen), CancellationToken::new(), prefix.to_owned());
        let (bus, until) = (self.bus.clone(), end.clone());
        let reader = tokio::spawn(async move {
            records::read_from(&bus, EVENTS_STREAM, SystemTime::UNIX_EPOCH, &until, |message| {
                let received = Received::from_message(message);
                if received.subject.starts_with(&wanted) {
                    sink.lock().unwrap().push(received);
                }
            })
            .await;
        });
        self.until(prefix, async || Some(()).filter(|()| seen.lock().unwrap().len() >= count)).await;
        tokio::time::sleep(MOMENT).await;
        end.cancel();
        reader.await.unwrap();
        let events = seen.lock().unwrap();
        events.clone()
    }
}
