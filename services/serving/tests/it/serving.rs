//! The serving binary, started with the environment that `slipway up` gives it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{DEPLOYMENT, World, canary, eventually};

/// As the value of a variable: it is not set.
pub(crate) const UNSET: &str = "unset";

/// The binary.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_slipway-serving");

/// A replica; killed when dropped.
pub(crate) struct Serving {
    child: Child,
    log: PathBuf,
    pub(crate) rest: String,
    pub(crate) grpc: String,
    pub(crate) metrics: String,
    pub(crate) http: reqwest::Client,
}

/// What a client learned from one prediction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) version: String,
    pub(crate) score: f64,
    pub(crate) label: i64,
}

/// A folder for models and tables that outlives a replica.
pub(crate) fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn free_address() -> String {
    format!("127.0.0.1:{}", slipway_testkit::free_port().expect("a free port"))
}

/// The body of a request for one point.
pub(crate) fn point(values: [f64; 2]) -> Value {
    json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": values}]})
}

impl Serving {
    /// Starts a replica; `more` is added to its environment. It answers, and may not be ready.
    pub(crate) async fn start(world: &World, cache: &tempfile::TempDir, more: &[(&str, &str)]) -> Self {
        Self::start_by(Command::new(PROGRAM), world, cache, more).await
    }

    /// The same, by a command that ends up as the program.
    pub(crate) async fn start_by(
        command: Command,
        world: &World,
        cache: &tempfile::TempDir,
        more: &[(&str, &str)],
    ) -> Self {
        let serving = Self::spawn(command, world, cache, more);
        eventually("serving answers", || async {
            serving.http.get(serving.url("/v2/health/live")).send().await.ok()
        })
        .await;
        serving
    }

    /// The same, without a look at whether it answers.
    pub(crate) fn start_unasked(world: &World, cache: &tempfile::TempDir, more: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(PROGRAM), world, cache, more)
    }

    fn spawn(mut command: Command, world: &World, cache: &tempfile::TempDir, more: &[(&str, &str)]) -> Self {
        let (rest, grpc, metrics) = (free_address(), free_address(), free_address());
        let log = cache.path().join(format!("log-{}", rest.rsplit(':').next().expect("a port")));
        let library = slipway_testkit::onnxruntime_library();
        command
            .env("SLIPWAY_LISTEN", &rest)
            .env("SLIPWAY_LISTEN_GRPC", &grpc)
            .env("SLIPWAY_LISTEN_METRICS", &metrics)
            .env("SLIPWAY_CACHE_DIR", cache.path().join("serving"))
            .env("SLIPWAY_ONNXRUNTIME_LIB", library)
            .env("SLIPWAY_NATS_URL", &world.nats.url)
            .env("SLIPWAY_REGISTRY_URL", world.registry.url())
            .env("SLIPWAY_S3_ENDPOINT", &world.bucket.endpoint)
            .env("SLIPWAY_S3_BUCKET", &world.bucket.bucket)
            .env("SLIPWAY_S3_ACCESS_KEY", &world.bucket.access_key)
            .env("SLIPWAY_S3_SECRET_KEY", &world.bucket.secret_key)
            .env("SLIPWAY_DRAIN_SECONDS", "0.5")
            .envs(more.iter().copied())
            .stderr(File::create(&log).expect("the log is made"));
        for (name, _) in more.iter().filter(|(_, value)| *value == UNSET) {
            command.env_remove(name);
        }
        let child = command.spawn().expect("the binary starts");
        let http = reqwest::Client::new();
        Self {
            child,
            log,
            rest: format!("http://{rest}"),
            grpc: format!("http://{grpc}"),
            metrics: format!("http://{metrics}"),
            http,
        }
    }

    /// Memory that it holds, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Files and connections that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// Files that lie in its memory.
    pub(crate) fn maps(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/maps", self.child.id())).expect("it runs")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Starts a replica and waits until it is ready.
    pub(crate) async fn ready(world: &World, cache: &tempfile::TempDir) -> Self {
        let serving = Self::start(world, cache, &[]).await;
        serving.wait_until_ready().await;
        serving
    }

    /// A replica with two versions, half of the traffic each, of which one fits into its memory: each request
    /// for the other loads it.
    pub(crate) async fn ready_with_room_for_one(world: &World, cache: &tempfile::TempDir) -> Self {
        let (first, second) = (
            world.version("1", "linear_minus_one.onnx").await,
            world.version("2", "linear_plus_one.onnx").await,
        );
        world.put(&canary(1, &first, &second, 50)).await;
        let serving = Self::start(world, cache, &[("SLIPWAY_SERVING_MEMORY_LIMIT_BYTES", "1")]).await;
        serving.wait_until_ready().await;
        // What is unloaded counts as ready for the rollout controller.
        world.routed(1).await;
        serving
    }

    pub(crate) async fn wait_until_ready(&self) {
        eventually("serving is ready", || async {
            let (status, _) = self.get("/readyz").await;
            (status == StatusCode::OK).then_some(())
        })
        .await;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.rest)
    }

    /// The text of its metrics.
    pub(crate) async fn shown(&self) -> String {
        let answer = self.http.get(format!("{}/metrics", self.metrics)).send().await.expect("an answer");
        answer.text().await.expect("text")
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.http.get(self.url(path))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.http.post(self.url(path)).json(body)).await
    }

    pub(crate) async fn infer(&self, body: &Value) -> (StatusCode, Value) {
        self.post(&format!("/v2/models/{DEPLOYMENT}/infer"), body).await
    }

    /// Sends one point, which must be answered.
    pub(crate) async fn predict(&self, values: [f64; 2]) -> Prediction {
        self.predict_for(None, values).await
    }

    /// The same, for a user.
    pub(crate) async fn predict_for(&self, user: Option<&str>, values: [f64; 2]) -> Prediction {
        let mut request = self.http.post(self.url(&format!("/v2/models/{DEPLOYMENT}/infer")));
        if let Some(user) = user {
            request = request.header("x-user", user);
        }
        let (status, body) = answer(request.json(&point(values))).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        Prediction {
            version: body["model_version"].as_str().expect("a version").to_owned(),
            score: body["outputs"][0]["data"][0].as_f64().expect("a score"),
            label: body["outputs"][1]["data"][0].as_i64().expect("a label"),
        }
    }

    /// Stops the process, or has it go on, as a debugger or a frozen machine would.
    pub(crate) fn hang(&self, hangs: bool) {
        let signal = if hangs { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end.
    pub(crate) fn ask_to_end(&self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(asked.success());
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.ask_to_end();
        self.wait()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        tokio::task::block_in_place(|| self.child.wait().expect("it ends").code())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let body = response.bytes().await.expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}
