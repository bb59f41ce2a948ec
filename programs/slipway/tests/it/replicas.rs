//! Several replicas of each service on one Postgres, NATS and S3, as on Kubernetes: what they cost while
//! nothing happens, and what a replica that hangs or dies costs the others. Directly, and behind PgBouncer.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use slipway_api::events::EVENTS_STREAM;
use slipway_event_bus::position::From;
use slipway_event_bus::{EventBus, NatsConfig};
use slipway_testkit::{TestBucket, TestNats, TestPostgres, free_port};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use crate::pgbouncer::PgBouncer;

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The services that store something, with the variable by which others find them.
const SERVICES: [(&str, &str); 4] = [
    ("registry", "SLIPWAY_REGISTRY_URL"),
    ("launcher", "SLIPWAY_LAUNCHER_URL"),
    ("rollout-controller", "SLIPWAY_ROLLOUT_CONTROLLER_URL"),
    ("drift-monitor", "SLIPWAY_DRIFT_MONITOR_URL"),
];
/// Connections of a replica at most, unless configured otherwise.
const MAX_CONNECTIONS: i64 = 8;

/// A process of a service; it ends when dropped.
pub(crate) struct Replica {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Replica {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    async fn get(&self, path: &str) -> Option<String> {
        let answer = reqwest::get(format!("{}{path}", self.url)).await.ok()?;
        if answer.status().is_success() { answer.text().await.ok() } else { None }
    }

    async fn leads(&self) -> bool {
        self.get("/metrics").await.is_some_and(|shown| shown.contains("\nslipway_leader 1\n"))
    }

    async fn create_experiment(&self, name: &str) {
        let url = format!("{}/api/2.0/mlflow/experiments/create", self.url);
        let created = reqwest::Client::new().post(url).json(&json!({ "name": name })).send().await.unwrap();
        assert!(created.status().is_success(), "{}", created.text().await.unwrap());
    }
}

/// The servers that all replicas share.
struct Cluster {
    postgres: TestPostgres,
    nats: TestNats,
    s3: TestBucket,
    bus: EventBus,
    dir: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        slipway_runtime::install_tls_provider();
        let (postgres, nats) = (slipway_testkit::own_postgres().await, slipway_testkit::nats().await);
        let bus = EventBus::connect(&NatsConfig { nats_url: nats.url.clone() }, "test").await.unwrap();
        Self { postgres, nats, s3: slipway_testkit::s3().await, bus, dir: tempfile::tempdir().unwrap() }
    }

    /// Starts a replica of a service, with Postgres at `url`, without waiting for it.
    fn replica(&self, service: &str, url: &str, port: u16, peers: &[(&str, String)]) -> Replica {
        let data = self.dir.path().join(format!("{service}-{port}"));
        std::fs::create_dir_all(&data).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_slipway"))
            .args(["service", service])
            .env("SLIPWAY_LISTEN", format!("127.0.0.1:{port}"))
            .env("SLIPWAY_POSTGRES_URL", url)
            .env("SLIPWAY_NATS_URL", &self.nats.url)
            .env("SLIPWAY_S3_ENDPOINT", &self.s3.endpoint)
            .env("SLIPWAY_S3_BUCKET", &self.s3.bucket)
            .env("SLIPWAY_S3_ACCESS_KEY", &self.s3.access_key)
            .env("SLIPWAY_S3_SECRET_KEY", &self.s3.secret_key)
            .env("SLIPWAY_DATA_DIR", &data)
            .envs(peers.iter().map(|(name, url)| (name, url)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(data.join("log")).unwrap())
            .spawn()
            .unwrap();
        Replica { child, url: format!("http://127.0.0.1:{port}") }
    }

    /// Starts that many replicas of the registry, and waits until they are ready.
    async fn registries(&self, url: &str, count: usize) -> Vec<Replica> {
        let replicas: Vec<Replica> =
            (0..count).map(|_| self.replica("registry", url, free_port().unwrap(), &[])).collect();
        self.ready(&replicas).await;
        replicas
    }

    async fn ready(&self, replicas: &[Replica]) {
        let started = Instant::now();
        for replica in replicas {
            while replica.get("/readyz").await.is_none() {
                let logs = self.dir.path().display();
                assert!(started.elapsed() < PATIENCE, "{} is not ready; see {logs}", replica.url);
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
    }

    async fn sql(&self) -> PgConnection {
        PgConnection::connect(&self.postgres.url).await.unwrap()
    }

    async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&mut self.sql().await).await.unwrap()
    }

    /// What idle connections asked last, and by whom.
    async fn asking(&self) -> Vec<(String, String)> {
        let asked = sqlx::query_as(
            "SELECT application_name, left(query, 80) FROM pg_stat_activity WHERE datname = 'slipway' \
             ORDER BY 1, 2",
        );
        asked.fetch_all(&mut self.sql().await).await.unwrap()
    }

    /// Names of the experiments whose creation was published, in their order, once there are `count`.
    async fn created(&self, count: usize) -> Vec<String> {
        let started = Instant::now();
        loop {
            let subjects = vec!["slipway.registry.experiment.created".to_owned()];
            let from = From::Time(SystemTime::UNIX_EPOCH);
            let page = self.bus.page(EVENTS_STREAM, subjects, from, 1_000).await.unwrap();
            if page.messages.len() >= count {
                let name = |body: &serde_json::Value| body["details"]["name"].as_str().unwrap().to_owned();
                return page.messages.iter().map(|found| name(&found.event.parse().unwrap())).collect();
            }
            assert!(started.elapsed() < PATIENCE, "{} events of {count}", page.messages.len());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// The one that leads, once there is one, and another one.
async fn leader_and_other(replicas: &[Replica]) -> (&Replica, &Replica) {
    let started = Instant::now();
    loop {
        for (number, replica) in replicas.iter().enumerate() {
            if replica.leads().await {
                return (replica, &replicas[(number + 1) % replicas.len()]);
            }
        }
        assert!(started.elapsed() < PATIENCE, "no replica leads");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_idle_replicas_of_each_service_ask_little_of_postgres() {
    const REPLICAS: usize = 3;
    const SECONDS: f64 = 15.0;
    let cluster = Cluster::start().await;
    let ports: Vec<u16> = (0..SERVICES.len() * REPLICAS).map(|_| free_port().unwrap()).collect();
    let url = |service: usize| format!("http://127.0.0.1:{}", ports[service * REPLICAS]);
    let peers: Vec<(&str, String)> =
        SERVICES.iter().enumerate().map(|(number, (_, variable))| (*variable, url(number))).collect();
    let start = |(number, port): (usize, &u16)| {
        cluster.replica(SERVICES[number / REPLICAS].0, &cluster.postgres.url, *port, &peers)
    };
    let replicas: Vec<Replica> = ports.iter().enumerate().map(start).collect();
    cluster.ready(&replicas).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    // A transaction that a leader keeps open counts once; everything else is a transaction for each look.
    let asked = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'slipway'";
    let before = cluster.count(asked).await;
    tokio::time::sleep(Duration::from_secs_f64(SECONDS)).await;
    let per_second = (cluster.count(asked).await - before) as f64 / SECONDS;
    let asking = cluster.asking().await;
    assert!(
        per_second <= 15.0,
        "{per_second:.1} transactions per second; there were 90 with relays that poll: {asking:?}"
    );
    let connections = cluster
        .count("SELECT count(*) FROM pg_stat_activity WHERE datname = 'slipway' AND pid <> pg_backend_pid()")
        .await;
    let limit = MAX_CONNECTIONS * i64::try_from(replicas.len()).unwrap();
    eprintln!("{per_second:.1} transactions per second, {connections} connections");
    assert!(connections <= limit, "{connections} connections of {limit}");
    assert!(limit <= 97, "what a stock Postgres has for users");
    let leaders = "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND granted \
        AND relation IN (SELECT oid FROM pg_class WHERE relname = 'lease_lock')";
    assert_eq!(cluster.count(leaders).await, 4, "one leader for each service");
}

/// What a test of a hanging leader does, wherever Postgres is reached.
async fn a_leader_hangs(cluster: &Cluster, url: &str) {
    let replicas = cluster.registries(url, 2).await;
    let (leader, other) = leader_and_other(&replicas).await;
    leader.create_experiment("e-0").await;
    cluster.created(1).await;
    leader.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    for number in 1..6 {
        other.create_experiment(&format!("e-{number}")).await;
    }
    cluster.created(6).await;
    // Generous: the machine may be busy. It used to be two hours.
    assert!(stopped.elapsed() < Duration::from_secs(30), "{:?}", stopped.elapsed());
    assert!(other.leads().await);
    leader.signal(Signal::SIGCONT);
    // It serves requests, and follows.
    for number in 6..11 {
        leader.create_experiment(&format!("e-{number}")).await;
    }
    let names = cluster.created(11).await;
    assert_eq!(names, (0..11).map(|number| format!("e-{number}")).collect::<Vec<_>>());
    let started = Instant::now();
    while leader.leads().await {
        assert!(started.elapsed() < PATIENCE, "two replicas lead");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let trail = "SELECT count(*) FROM registry.audit WHERE entity = 'experiment' AND what = 'created'";
    while cluster.count(trail).await < 11 {
        assert!(started.elapsed() < PATIENCE, "the audit trail lacks rows");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    assert_eq!(cluster.count(trail).await, 11, "a row was written twice");
    // The next one takes over at once when the leader dies.
    other.signal(Signal::SIGKILL);
    leader.create_experiment("e-11").await;
    assert_eq!(cluster.created(12).await.last().unwrap(), "e-11");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_the_registry_that_hangs_or_dies_stops_no_events() {
    let cluster = Cluster::start().await;
    let url = cluster.postgres.url.clone();
    a_leader_hangs(&cluster, &url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_work_and_take_over_behind_pgbouncer_in_transaction_mode() {
    let Some(program) = PgBouncer::program() else {
        eprintln!("skipped: there is no pgbouncer 1.21 or newer on PATH");
        return;
    };
    let cluster = Cluster::start().await;
    let pooler = PgBouncer::start(&program, &cluster.postgres.url, &["registry"]);
    a_leader_hangs(&cluster, &pooler.url("registry")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_drops_the_schema_is_refused_with_the_settings_to_change() {
    let Some(program) = PgBouncer::program() else {
        eprintln!("skipped: there is no pgbouncer 1.21 or newer on PATH");
        return;
    };
    let cluster = Cluster::start().await;
    let pooler = PgBouncer::start(&program, &cluster.postgres.url, &[]);
    let port = free_port().unwrap();
    let mut replica = cluster.replica("registry", &pooler.url("slipway"), port, &[]);
    let started = Instant::now();
    while replica.child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < PATIENCE, "it works in the wrong schema");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let log = std::fs::read_to_string(cluster.dir.path().join(format!("registry-{port}/log"))).unwrap();
    assert!(log.contains("expected `registry`") && log.contains("connect_query"), "{log}");
}
