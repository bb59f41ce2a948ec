//! A launcher of one's own, as a process that can be killed, and a client of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use slipway_api::events::EVENTS_STREAM;
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_event_bus::{EventBus, NatsConfig, Received, records};
use slipway_testkit::{TestBucket, TestNats};
use tokio_util::sync::CancellationToken;

use crate::processes;

/// Nothing here takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const REGISTRY_URL: &str = "http://127.0.0.1:5999";
pub(crate) const JOB_TOKEN: &str = "a-token-for-jobs";
/// After two thirds of it an agent without a launcher ends its command.
const LEASE_MS: u64 = 24_000;

/// The launcher and everything that it stands on.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) data_dir: PathBuf,
    _folder: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) nats: TestNats,
    pub(crate) bucket: TestBucket,
    http: reqwest::Client,
    pub(crate) launcher: Mutex<Option<Child>>,
    submitted: Mutex<Vec<String>>,
    /// Further settings of the launcher, by variable.
    pub(crate) more: Vec<(&'static str, String)>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_launcher();
        for job in self.submitted.lock().unwrap().iter() {
            processes::kill_all(job);
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.data_dir.join("launcher.log")).unwrap_or_default();
            eprintln!("--- the launcher's log ---\n{log}");
        }
    }
}

/// The agent as a program, which Cargo builds with the tests.
fn agent() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let agent = own.parent().unwrap().parent().unwrap().join("examples/agent-under-test");
    assert!(
        agent.is_file(),
        "{} is missing: cargo build -p slipway-launcher --example agent-under-test",
        agent.display()
    );
    agent
}

impl World {
    pub(crate) async fn begin() -> Self {
        let database = slipway_testkit::postgres().await.url;
        Self::on(&database).await
    }

    /// With further settings of the launcher, which depend on a folder that lives as long as the world and
    /// that every account can pass.
    pub(crate) async fn with(settings: impl FnOnce(&std::path::Path) -> Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let more = settings(folder.path());
        let database = slipway_testkit::postgres().await.url;
        Self::standing_on(&database, folder, more).await
    }

    /// Without a launcher yet, for tests that start several.
    pub(crate) async fn without_launcher(lease_ms: u64) -> Self {
        let database = slipway_testkit::postgres().await.url;
        let more = vec![("SLIPWAY_LEASE_MS", lease_ms.to_string())];
        Self::prepared(&database, tempfile::tempdir().unwrap(), more).await
    }

    /// On a given Postgres.
    pub(crate) async fn on(database: &str) -> Self {
        Self::standing_on(database, tempfile::tempdir().unwrap(), Vec::new()).await
    }

    async fn standing_on(
        database: &str,
        folder: tempfile::TempDir,
        more: Vec<(&'static str, String)>,
    ) -> Self {
        let world = Self::prepared(database, folder, more).await;
        world.start_launcher().await;
        world
    }

    async fn prepared(database: &str, folder: tempfile::TempDir, more: Vec<(&'static str, String)>) -> Self {
        slipway_runtime::install_tls_provider();
        let port = slipway_testkit::free_port().unwrap();
        let world = Self {
            url: format!("http://127.0.0.1:{port}"),
            data_dir: folder.path().join("launcher"),
            _folder: folder,
            port,
            database: database.to_owned(),
            nats: slipway_testkit::nats().await,
            bucket: slipway_testkit::s3().await,
            http: reqwest::Client::new(),
            launcher: Mutex::new(None),
            submitted: Mutex::new(Vec::new()),
            more,
        };
        std::fs::create_dir_all(&world.data_dir).unwrap();
        world
    }

    /// Starts the launcher and waits until it is ready.
    pub(crate) async fn start_launcher(&self) {
        let child = self.command(&[], self.port, &self.data_dir).spawn().unwrap();
        *self.launcher.lock().unwrap() = Some(child);
        self.ready(&self.url).await;
    }

    /// Waits until a launcher is ready.
    pub(crate) async fn ready(&self, url: &str) {
        self.eventually("the launcher is ready", async || {
            let ready = self.http.get(format!("{url}/readyz")).send().await;
            ready.is_ok_and(|response| response.status() == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// A launcher of this world with a port and a data folder of its own, which the program `within` starts.
    pub(crate) fn command(&self, within: &[&str], port: u16, data_dir: &std::path::Path) -> Command {
        std::fs::create_dir_all(data_dir).unwrap();
        let path = data_dir.join("launcher.log");
        let log = std::fs::File::options().create(true).append(true).open(path).unwrap();
        let words: Vec<&str> =
            within.iter().copied().chain([env!("CARGO_BIN_EXE_slipway-launcher")]).collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env("SLIPWAY_LISTEN", format!("127.0.0.1:{port}"))
            .env("SLIPWAY_POSTGRES_URL", &self.database)
            .env("SLIPWAY_NATS_URL", &self.nats.url)
            .env("SLIPWAY_S3_ENDPOINT", &self.bucket.endpoint)
            .env("SLIPWAY_S3_BUCKET", &self.bucket.bucket)
            .env("SLIPWAY_S3_ACCESS_KEY", &self.bucket.access_key)
            .env("SLIPWAY_S3_SECRET_KEY", &self.bucket.secret_key)
            .env("SLIPWAY_REGISTRY_URL", REGISTRY_URL)
            .env("SLIPWAY_DATA_DIR", data_dir)
            .env("SLIPWAY_MAX_JOB_CPUS", "8")
            .env("SLIPWAY_MAX_JOB_MEMORY_BYTES", "8000000000")
            .env("SLIPWAY_JOB_GPUS", "4,7")
            .env("SLIPWAY_AGENT", agent())
            .env("SLIPWAY_JOB_TOKEN", JOB_TOKEN)
            .env("SLIPWAY_LEASE_MS", LEASE_MS.to_string())
            .env("SLIPWAY_DRAIN_SECONDS", "0.5")
            .envs(self.more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// `kill -9` of the launcher alone.
    pub(crate) fn kill_launcher(&self) {
        if let Some(mut child) = self.launcher.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM to the launcher; waits for its end.
    pub(crate) fn stop_launcher(&self) {
        let mut child = self.launcher.lock().unwrap().take().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(tokio::task::block_in_place(|| child.wait()).unwrap().success(), "a clean end");
    }

    pub(crate) async fn request(&self, method: Method, path: &str, body: String) -> Response {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.header("content-type", "application/json").body(body).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path, String::new()).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Submits without any expectation.
    pub(crate) async fn try_submit(&self, key: Option<&str>, body: &Value) -> (StatusCode, Value) {
        let mut request = self.http.post(format!("{}/api/v1/jobs", self.url)).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        if let Some(id) = answer["id"].as_str() {
            self.submitted.lock().unwrap().push(id.to_owned());
        }
        (status, answer)
    }

    /// Submits a job; its id.
    pub(crate) async fn submit(&self, body: Value) -> String {
        let (status, answer) = self.try_submit(None, &body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Submits a shell script with further fields of the job.
    pub(crate) async fn submit_script(&self, script: &str, further: Value) -> String {
        let mut body = json!({"name": "script", "command": ["sh", "-c", script]});
        body.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        self.submit(body).await
    }

    pub(crate) async fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}")).await
    }

    pub(crate) async fn cancel(&self, id: &str) -> Value {
        let response = self.request(Method::POST, &format!("/api/v1/jobs/{id}/cancel"), String::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    /// The text of `/logs` with this query.
    pub(crate) async fn log(&self, id: &str, query: &str) -> String {
        let response =
            self.request(Method::GET, &format!("/api/v1/jobs/{id}/logs?{query}"), String::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.text().await.unwrap()
    }

    /// Waits until the job is as wanted.
    pub(crate) async fn wait(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.eventually(what, async || {
            let job = self.job(id).await;
            let over = ["succeeded", "failed", "cancelled"].iter().any(|status| job["status"] == *status);
            let found = wanted(&job);
            if over && !found {
                let log = self.log(id, "").await;
                assert!(found, "waited for: {what}; but it ended as {job:#}\n{log}");
            }
            found.then_some(job)
        })
        .await
    }

    pub(crate) async fn ended(&self, id: &str, status: &str) -> Value {
        self.wait(id, status, |job| job["status"] == status).await
    }

    /// Waits for a text in the job's log.
    pub(crate) async fn wait_for_log(&self, id: &str, text: &str) {
        self.eventually(text, async || self.log(id, "").await.contains(text).then_some(())).await;
    }

    /// Waits until none of the job's processes is left.
    pub(crate) async fn wait_for_no_process(&self, id: &str) {
        self.eventually("no process is left", async || processes::of_job(id).is_empty().then_some(())).await;
    }

    pub(crate) async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "waited in vain for: {what}");
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// Executes a statement on the launcher's tables, as an earlier release would have.
    pub(crate) async fn execute(&self, statement: &'static str) {
        use sqlx::Connection as _;
        let mut connection = sqlx::PgConnection::connect(&self.database).await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }

    pub(crate) fn store(&self) -> ArtifactStore {
        ArtifactStore::new(&S3Config {
            s3_endpoint: self.bucket.endpoint.clone(),
            s3_region: "us-east-1".to_owned(),
            s3_bucket: self.bucket.bucket.clone(),
            s3_access_key: self.bucket.access_key.clone(),
            s3_secret_key: self.bucket.secret_key.clone().into(),
        })
    }

    /// The last tokens of the subjects of a job's events in order, e.g. `started`, once there are `count`;
    /// and what comes within a moment after.
    pub(crate) async fn events(&self, job: &str, count: usize) -> Vec<String> {
        let received = self.received("slipway.launcher.job.", job, count).await;
        received.iter().map(|event| event.subject.rsplit('.').next().unwrap().to_owned()).collect()
    }

    /// Events of a job whose subjects begin so.
    pub(crate) async fn received(&self, prefix: &str, job: &str, count: usize) -> Vec<Received> {
        let config = NatsConfig { nats_url: self.nats.url.clone() };
        let bus = EventBus::connect(&config, "test").await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (sink, end) = (Arc::clone(&seen), CancellationToken::new());
        let (prefix, job, until) = (prefix.to_owned(), job.to_owned(), end.clone());
        let reader = tokio::spawn(async move {
            records::read_from(&bus, EVENTS_STREAM, SystemTime::UNIX_EPOCH, &until, |message| {
                let received = Received::from_message(message);
                if received.subject.starts_with(&prefix) && received.entity.starts_with(&job) {
                    sink.lock().unwrap().push(received);
                }
            })
            .await;
        });
        self.eventually("events", async || (seen.lock().unwrap().len() >= count).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        end.cancel();
        reader.await.unwrap();
        let events = seen.lock().unwrap();
        events.clone()
    }
}
