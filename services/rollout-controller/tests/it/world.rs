//! A controller of one's own, its peers, and a client.

use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_nats::HeaderMap;
use clap::Parser as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::events::{ALIAS_SET, EVENTS_STREAM};
use slipway_api::traffic::{TRAFFIC_BUCKET, TrafficTable};
use slipway_event_bus::{EventBus, NatsConfig, Received, records};
use slipway_testkit::{TestNats, TestPostgres};
use sqlx::Connection as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::peers::{self, MODEL_ID, Replica, Versions};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(clap::Parser)]
struct Settings {
    #[command(flatten)]
    config: slipway_rollout_controller::Config,
}

/// A running controller.
pub(crate) struct Controller {
    pub(crate) url: String,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Controller {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A controller in a process of its own; it ends when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) controller: Controller,
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct World {
    pub(crate) nats: TestNats,
    pub(crate) bus: EventBus,
    pub(crate) replica: Replica,
    pub(crate) versions: Versions,
    database: String,
    registry: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    /// A controller, a replica, and version 1 deployed as `d` without a canary.
    pub(crate) async fn deployed() -> (Self, Controller) {
        Box::pin(Self::deployed_on(slipway_testkit::postgres().await.url)).await
    }

    /// The same, with a Postgres that the test may kill.
    pub(crate) async fn deployed_on_own_postgres() -> (TestPostgres, Self, Controller) {
        let postgres = slipway_testkit::own_postgres().await;
        let (world, controller) = Self::deployed_on(postgres.url.clone()).await;
        (postgres, world, controller)
    }

    async fn deployed_on(database: String) -> (Self, Controller) {
        let world = Self::begin(database).await;
        let controller = world.controller().await;
        let body = json!({"name": "d", "model": "m", "version": "1", "watch_alias": "champion",
            "default_strategy": strategy()});
        world.call(&controller, Method::POST, "deployments", body).await;
        world.wait_for(&controller, "1", "promoted").await;
        (world, controller)
    }

    pub(crate) async fn begin(database: String) -> Self {
        slipway_runtime::install_tls_provider();
        let nats = slipway_testkit::nats().await;
        let bus = EventBus::connect(&NatsConfig { nats_url: nats.url.clone() }, "test").await.unwrap();
        let shutdown = CancellationToken::new();
        assert!(bus.wait_for_resources(&shutdown).await);
        let (versions, registry) = peers::registry().await;
        Self {
            replica: Replica::start(bus.clone(), shutdown.clone()),
            versions,
            database,
            registry,
            http: reqwest::Client::new(),
            nats,
            bus,
            shutdown,
        }
    }

    /// Starts a controller on this world's database.
    pub(crate) async fn controller(&self) -> Controller {
        let port = slipway_testkit::free_port().unwrap();
        let arguments = ["controller".to_owned()].into_iter().chain(self.arguments(port));
        let shutdown = self.shutdown.child_token();
        let config = Settings::parse_from(arguments).config;
        let task = tokio::spawn(slipway_rollout_controller::run(config, shutdown.clone()));
        let controller = Controller { url: format!("http://127.0.0.1:{port}"), shutdown, task };
        self.ready(&controller).await;
        controller
    }

    /// Starts a controller in a process of its own.
    pub(crate) async fn process(&self) -> Process {
        let port = slipway_testkit::free_port().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_slipway-rollout-controller"));
        command.args(self.arguments(port)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let controller = Controller {
            url: format!("http://127.0.0.1:{port}"),
            shutdown: self.shutdown.child_token(),
            task: tokio::spawn(async { Ok(()) }),
        };
        self.ready(&controller).await;
        Process { child, controller }
    }

    fn arguments(&self, port: u16) -> [String; 6] {
        [
            format!("--listen=127.0.0.1:{port}"),
            format!("--postgres-url={}", self.database),
            format!("--nats-url={}", self.nats.url),
            format!("--registry-url={}", self.registry),
            "--acknowledge-timeout-ms=1000".to_owned(),
            "--drain-seconds=0.5".to_owned(),
        ]
    }

    async fn ready(&self, controller: &Controller) {
        let started = Instant::now();
        loop {
            let ready = self.http.get(format!("{}/readyz", controller.url)).send().await;
            if ready.is_ok_and(|response| response.status() == StatusCode::OK) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "the controller is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether a controller leads.
    pub(crate) async fn leads(&self, controller: &Controller) -> bool {
        let shown = self.http.get(format!("{}/metrics", controller.url)).send().await.unwrap();
        shown.text().await.unwrap().contains("\nslipway_leader 1\n")
    }

    pub(crate) async fn try_call(
        &self,
        controller: &Controller,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("{}/api/v1/{path}", controller.url));
        let response = request.header("x-slipway-actor", "ann").json(&body).send().await.unwrap();
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    /// A call that has to go well.
    pub(crate) async fn call(
        &self,
        controller: &Controller,
        method: Method,
        path: &str,
        body: Value,
    ) -> Value {
        let (status, answer) = self.try_call(controller, method, path, body).await;
        assert!(status.is_success(), "{path}: {status}: {answer}");
        answer
    }

    pub(crate) async fn get(&self, controller: &Controller, path: &str) -> Value {
        self.call(controller, Method::GET, path, Value::Null).await
    }

    /// Another replica, with tables of its own.
    pub(crate) fn another_replica(&self, id: &str) -> Replica {
        Replica::start_as(id, self.bus.clone(), self.shutdown.clone())
    }

    /// Creates deployments of version 1, and waits until the last of them is promoted.
    pub(crate) async fn deploy(&self, controller: &Controller, names: &[String]) {
        for name in names {
            let body = json!({"name": name, "model": "m", "version": "1", "default_strategy": {"steps": []}});
            self.call(controller, Method::POST, "deployments", body).await;
        }
        let started = Instant::now();
        for name in names {
            while self.get(controller, &format!("deployments/{name}")).await["stable_version"] != "1" {
                assert!(started.elapsed() < PATIENCE, "{name} is not promoted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Messages that a bucket holds, and how many were written to it.
    pub(crate) async fn written(&self, bucket: &str) -> (u64, u64) {
        let mut stream = self.bus.jetstream().get_stream(format!("KV_{bucket}")).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        (state.messages, state.last_sequence)
    }

    /// Starts a rollout of that version; its id.
    pub(crate) async fn roll_out(&self, controller: &Controller, version: &str) -> String {
        let started = self
            .call(controller, Method::POST, "deployments/d/rollouts", json!({ "version": version }))
            .await;
        started["id"].as_str().unwrap().to_owned()
    }

    /// The newest rollout to a version, with its decisions, once it is in that phase.
    pub(crate) async fn wait_for(&self, controller: &Controller, version: &str, phase: &str) -> Value {
        let started = Instant::now();
        loop {
            let path = "rollouts?deployment=d";
            let (status, all) = self.try_call(controller, Method::GET, path, Value::Null).await;
            // 503: a connection to a Postgres that was restarted breaks at its first use.
            assert!(status.is_success() || status == 503, "{path}: {status}: {all}");
            let rollouts = all["rollouts"].as_array().cloned().unwrap_or_default();
            let found = rollouts.into_iter().find(|one| one["to_version"] == version).unwrap_or_default();
            if found["phase"] == phase {
                let id = found["id"].as_str().unwrap();
                return self.get(controller, &format!("rollouts/{id}")).await;
            }
            assert!(started.elapsed() < PATIENCE, "waited for {version} to be {phase}: {found}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The traffic table as replicas see it.
    pub(crate) async fn table(&self) -> Option<TrafficTable> {
        let bytes = self.bus.bucket(TRAFFIC_BUCKET).await.unwrap().get("d").await.unwrap()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    /// The same, also while NATS is unreachable.
    pub(crate) async fn try_table(&self) -> Option<TrafficTable> {
        let bytes = self.bus.jetstream().get_key_value(TRAFFIC_BUCKET).await.ok()?.get("d").await.ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Sets the alias and tells of it, as the registry does. `delivery` makes the message another one to
    /// NATS.
    pub(crate) async fn alias_set(&self, version: &str, event: &str, delivery: &str) {
        self.versions.point_champion_at(version);
        self.alias_told(version, event, delivery, None).await;
    }

    /// The same where it pointed there before.
    pub(crate) async fn alias_set_again(&self, version: &str, event: &str, delivery: &str) {
        let body = json!({"model": self.versions.name(), "alias": "champion", "version": version,
            "unchanged": true, "model_id": MODEL_ID});
        self.publish_alias(&body, event, delivery, None).await;
    }

    /// Tells that the alias was set, whether or not it still points there.
    pub(crate) async fn alias_told(
        &self,
        version: &str,
        event: &str,
        delivery: &str,
        traceparent: Option<&str>,
    ) {
        let body = json!({"model": self.versions.name(), "alias": "champion", "version": version,
            "model_id": MODEL_ID});
        self.publish_alias(&body, event, delivery, traceparent).await;
    }

    async fn publish_alias(&self, body: &Value, event: &str, delivery: &str, traceparent: Option<&str>) {
        let mut headers = HeaderMap::new();
        if let Some(traceparent) = traceparent {
            headers.insert("traceparent", traceparent);
        }
        headers.insert("Nats-Msg-Id", delivery);
        headers.insert("ce-id", event);
        headers.insert("ce-type", ALIAS_SET);
        let body = body.to_string().into();
        let sent = self.bus.jetstream().publish_with_headers(ALIAS_SET, headers, body).await.unwrap();
        sent.await.unwrap();
    }

    /// Bodies of the events of a kind about the deployment, oldest first.
    pub(crate) async fn deployment_events(&self, what: &str) -> Vec<Value> {
        let subject = format!("slipway.rollout-controller.deployment.{what}");
        let history = self.history().await;
        let about = history.iter().filter(|received| received.subject == subject);
        about.map(|received| received.parse::<Value>().unwrap()).collect()
    }

    /// Waits until the deployment shows this outcome of the last move of its alias.
    pub(crate) async fn alias_move(&self, controller: &Controller, outcome: &str) -> Value {
        let started = Instant::now();
        loop {
            let shown = self.get(controller, "deployments/d").await;
            if shown["last_alias_move"]["outcome"] == outcome {
                return shown["last_alias_move"].clone();
            }
            assert!(started.elapsed() < PATIENCE, "waited for the outcome {outcome}: {shown}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An event of the registry.
    pub(crate) async fn publish(&self, subject: &'static str, body: Value) {
        let id = uuid::Uuid::new_v4().to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in [("Nats-Msg-Id", id.as_str()), ("ce-id", id.as_str()), ("ce-type", subject)] {
            headers.insert(name, value);
        }
        let sent = self.bus.jetstream().publish_with_headers(subject, headers, body.to_string().into()).await;
        sent.unwrap().await.unwrap();
    }

    /// Waits until the deployment is as wanted.
    pub(crate) async fn deployment(
        &self,
        controller: &Controller,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let started = Instant::now();
        loop {
            let found = self.get(controller, "deployments/d").await;
            if wanted(&found) {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "waited for {what}: {found}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the controller has told of rollouts to a version so far, and within a moment after.
    pub(crate) async fn told(&self, version: &str) -> Vec<String> {
        self.news(version).await.into_iter().map(|(what, _)| what).collect()
    }

    /// The same, each with its trace context.
    pub(crate) async fn news(&self, version: &str) -> Vec<(String, Option<String>)> {
        let mut news = Vec::new();
        for received in self.history().await {
            let body: Value = received.parse().unwrap();
            if body["to_version"] == version {
                news.push((body["what"].as_str().unwrap().to_owned(), received.traceparent));
            }
        }
        news
    }

    /// Every event so far, oldest first: those that were committed are published first.
    async fn history(&self) -> Vec<Received> {
        let mut connection = sqlx::PgConnection::connect(&self.database).await.unwrap();
        let started = Instant::now();
        loop {
            let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM rollout_controller.outbox")
                .fetch_one(&mut connection)
                .await
                .unwrap();
            if waiting == 0 {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{waiting} events are not published");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let stream = self.bus.jetstream().get_stream(EVENTS_STREAM).await.unwrap();
        let count = usize::try_from(stream.cached_info().state.messages).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (sink, end) = (Arc::clone(&seen), CancellationToken::new());
        let reading = records::read_from(&self.bus, EVENTS_STREAM, SystemTime::UNIX_EPOCH, &end, |message| {
            let mut seen = sink.lock().unwrap();
            seen.push(Received::from_message(message));
            if seen.len() >= count {
                end.cancel();
            }
        });
        if count > 0 {
            tokio::time::timeout(PATIENCE, reading).await.unwrap();
        }
        let events = seen.lock().unwrap();
        events.clone()
    }
}

/// Makes this process have traces, as a service's own process has; without it there are none to pass on.
pub(crate) fn trace() {
    #[derive(clap::Parser)]
    struct Telemetry {
        #[command(flatten)]
        config: slipway_telemetry::TelemetryConfig,
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let config = Telemetry::parse_from(["test", "--log=off"]).config;
        std::mem::forget(slipway_telemetry::init("test", &config).unwrap());
    });
}

/// Two steps that need twenty requests and ten labels each.
pub(crate) fn strategy() -> Value {
    json!({"steps": [{"weight_percent": 10, "hold_s": 0.2}, {"weight_percent": 50, "hold_s": 0.2}],
        "analysis": {"min_requests": 20, "min_labels": 10, "interval_ms": 50, "max_inconclusive_s": 60.0}})
}
