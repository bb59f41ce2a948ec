//! Rolling restarts and upgrades as on Kubernetes: two replicas of each service behind a port that passes
//! connections to the ready ones. Clients of every kind keep sending requests, and none of them may fail.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slipway_testkit::{TestBucket, TestNats, TestPostgres, free_port};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use crate::balancer::Balancer;
use crate::client::{Client, strategy};
use crate::requests::Requests;

const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The balancer looks every 0.1 s; the machine may be busy.
const DRAIN_SECONDS: &str = "3";
/// How long a replica of an earlier release is out of the balancer before its signal.
const PRE_STOP: Duration = Duration::from_secs(3);
/// Levels of lines of a log that are shown if a request failed, the last ones of each replica.
const COMPLAINTS: [&str; 2] = [" WARN ", "ERROR "];
const MAX_COMPLAINTS: usize = 30;
/// Path of a `slipway` of the previous release.
const PREVIOUS: &str = "SLIPWAY_TEST_PREVIOUS";

/// A service, the variable by which others find it, and those of its ports.
struct Service {
    name: &'static str,
    url: &'static str,
    ports: &'static [&'static str],
}

const SERVICES: [Service; 5] = [
    Service { name: "registry", url: "SLIPWAY_REGISTRY_URL", ports: &["SLIPWAY_LISTEN"] },
    Service { name: "launcher", url: "SLIPWAY_LAUNCHER_URL", ports: &["SLIPWAY_LISTEN"] },
    Service {
        name: "serving",
        url: "SLIPWAY_SERVING_URL",
        ports: &["SLIPWAY_LISTEN", "SLIPWAY_LISTEN_GRPC"],
    },
    Service { name: "rollout-controller", url: "SLIPWAY_ROLLOUT_CONTROLLER_URL", ports: &["SLIPWAY_LISTEN"] },
    Service { name: "drift-monitor", url: "SLIPWAY_DRIFT_MONITOR_URL", ports: &["SLIPWAY_LISTEN"] },
];
/// Schemas, and the tables of migrations in them.
const SCHEMAS: [&str; 4] = ["registry", "launcher", "rollout_controller", "drift_monitor"];

/// A `slipway`, and whether it goes on answering for the drain time after its signal.
#[derive(Clone)]
struct Program {
    path: PathBuf,
    drains: bool,
}

impl Program {
    fn this() -> Self {
        Self { path: env!("CARGO_BIN_EXE_slipway").into(), drains: true }
    }

    fn previous() -> Option<Self> {
        let path = std::env::var_os(PREVIOUS)?;
        Some(Self { path: path.into(), drains: false })
    }
}

/// A process of a service; it is killed when dropped.
struct Replica {
    child: Child,
    addresses: Vec<SocketAddr>,
    drains: bool,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two replicas of each service, in the order of [`SERVICES`].
struct Cluster {
    postgres: TestPostgres,
    nats: TestNats,
    s3: TestBucket,
    dir: TempDir,
    balancers: Vec<Balancer>,
    replicas: Vec<Vec<Replica>>,
}

impl Cluster {
    async fn start(program: &Program) -> Self {
        slipway_runtime::install_tls_provider();
        let (postgres, nats) = (slipway_testkit::own_postgres().await, slipway_testkit::nats().await);
        let (s3, dir) = (slipway_testkit::s3().await, tempfile::tempdir().unwrap());
        let mut balancers = Vec::new();
        for service in &SERVICES {
            balancers.push(Balancer::open(service.ports.len()).await);
        }
        let mut cluster = Self { postgres, nats, s3, dir, balancers, replicas: Vec::new() };
        for (number, _) in SERVICES.iter().enumerate() {
            let replicas = (0..2).map(|slot| cluster.launch(program, number, slot)).collect();
            cluster.replicas.push(replicas);
        }
        for (number, replicas) in cluster.replicas.iter().enumerate() {
            for replica in replicas {
                cluster.ready(number, replica).await;
            }
        }
        cluster
    }

    fn client(&self) -> Client {
        let url = |number: usize| self.balancers[number].url(0);
        Client::at([url(0), url(1), url(2), url(3), url(4)])
    }

    /// Starts a replica, without waiting for it. Replicas of a slot share a folder.
    fn launch(&self, program: &Program, number: usize, slot: usize) -> Replica {
        let service = &SERVICES[number];
        let data = self.dir.path().join(format!("{}-{slot}", service.name));
        std::fs::create_dir_all(&data).unwrap();
        let log = data.join("log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let free = || SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let addresses: Vec<SocketAddr> = service.ports.iter().map(|_| free()).collect();
        let peers = SERVICES.iter().zip(&self.balancers);
        let child = Command::new(&program.path)
            .args(["service", service.name])
            .envs(service.ports.iter().zip(&addresses).map(|(name, address)| (name, address.to_string())))
            .envs(peers.map(|(peer, balancer)| (peer.url, balancer.url(0))))
            .env("SLIPWAY_LISTEN_METRICS", "127.0.0.1:0")
            .env("SLIPWAY_POSTGRES_URL", &self.postgres.url)
            .env("SLIPWAY_NATS_URL", &self.nats.url)
            .env("SLIPWAY_S3_ENDPOINT", &self.s3.endpoint)
            .env("SLIPWAY_S3_BUCKET", &self.s3.bucket)
            .env("SLIPWAY_S3_ACCESS_KEY", &self.s3.access_key)
            .env("SLIPWAY_S3_SECRET_KEY", &self.s3.secret_key)
            .env("SLIPWAY_DATA_DIR", &data)
            .env("SLIPWAY_CACHE_DIR", data.join("cache"))
            .env("SLIPWAY_ONNXRUNTIME_LIB", slipway_testkit::onnxruntime_library())
            .env("SLIPWAY_DRAIN_SECONDS", DRAIN_SECONDS)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.balancers[number].add(addresses.clone());
        Replica { child, addresses, drains: program.drains }
    }

    async fn ready(&self, number: usize, replica: &Replica) {
        let started = Instant::now();
        while !self.balancers[number].is_ready(replica.addresses[0]) {
            let (name, logs) = (SERVICES[number].name, self.dir.path().display());
            assert!(started.elapsed() < PATIENCE, "{name} is not ready; see {logs}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Ends a replica and starts another one in its place.
    async fn replace(&mut self, program: &Program, number: usize, slot: usize) {
        let (balancer, name) = (&self.balancers[number], SERVICES[number].name);
        let replica = &mut self.replicas[number][slot];
        if !replica.drains {
            balancer.take_out(replica.addresses[0]);
            tokio::time::sleep(PRE_STOP).await;
        }
        kill(Pid::from_raw(replica.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = replica.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "{name} does not end");
            tokio::time::sleep(LOOK_INTERVAL).await;
        };
        assert!(status.success(), "{name} ended with {status}; see {}", self.dir.path().display());
        balancer.remove(replica.addresses[0]);
        let next = self.launch(program, number, slot);
        self.ready(number, &next).await;
        self.replicas[number][slot] = next;
    }

    /// Replaces all replicas of these services, one at a time.
    async fn roll(&mut self, program: &Program, services: &[usize]) {
        for number in services {
            for slot in 0..2 {
                self.replace(program, *number, slot).await;
            }
        }
    }

    /// Applies what the migrations of a newer release may contain: a column in every table. Not in those of
    /// leases, which replicas have locked as long as they run.
    async fn expand(&self) {
        let mut connection = PgConnection::connect(&self.postgres.url).await.unwrap();
        sqlx::query("SET lock_timeout = '1s'").execute(&mut connection).await.unwrap();
        for schema in SCHEMAS {
            let tables: Vec<String> = sqlx::query_scalar(
                "SELECT tablename::TEXT FROM pg_tables WHERE schemaname = $1 AND tablename NOT LIKE 'lease%'",
            )
            .bind(schema)
            .fetch_all(&mut connection)
            .await
            .unwrap();
            for table in tables {
                let statement = if table.ends_with("_migrations") {
                    format!(
                        "INSERT INTO {schema}.{table} (version, description, success, checksum, \
                         execution_time) VALUES (9999, 'of a newer release', TRUE, '\\x00', 0)"
                    )
                } else {
                    format!("ALTER TABLE {schema}.{table} ADD COLUMN of_a_newer_release TEXT DEFAULT 'x'")
                };
                let started = Instant::now();
                while let Err(error) =
                    sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut connection).await
                {
                    assert!(started.elapsed() < PATIENCE, "{statement}: {error}");
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
            }
        }
    }

    /// What the replicas logged as warnings and errors.
    fn complaints(&self) -> String {
        let mut complaints = String::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap().flatten() {
            let log = std::fs::read_to_string(entry.path().join("log")).unwrap_or_default();
            let found = log.lines().filter(|line| COMPLAINTS.iter().any(|level| line.contains(level)));
            let found: Vec<&str> = found.collect();
            let last = &found[found.len().saturating_sub(MAX_COMPLAINTS)..];
            complaints += &format!("{}:\n{}\n", entry.file_name().display(), last.join("\n"));
        }
        complaints
    }
}

/// Clients send requests while `change` happens; none fails.
async fn without_a_failed_request(cluster: &mut Cluster, change: impl AsyncFnOnce(&mut Cluster)) {
    let client = cluster.client();
    assert_eq!(client.register("churn", "right-1.onnx").await, "1");
    client.deploy("churn", strategy(0.2)).await;
    let monitor = serde_json::json!({"name": "churn-inputs", "deployment": "churn", "model": "churn"});
    client.post(&format!("{}/api/v1/monitors", client.monitor), monitor).await;
    let requests = Requests::start(&client, &cluster.balancers[2].url(1));
    change(cluster).await;
    let report = requests.stop().await;
    eprintln!("{report}");
    assert!(report.failures().is_empty(), "{report}{}", cluster.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_restart_one_after_the_other_without_a_failed_request() {
    let this = Program::this();
    let mut cluster = Cluster::start(&this).await;
    without_a_failed_request(&mut cluster, async |cluster| {
        // The second half of an upgrade to a newer release, and back.
        cluster.expand().await;
        cluster.roll(&this, &[0, 1, 2, 3, 4]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_release_is_upgraded_without_a_failed_request() {
    let Some(previous) = Program::previous() else {
        eprintln!("left out: {PREVIOUS} does not name a `slipway` of the previous release");
        return;
    };
    let this = Program::this();
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]] {
        let mut cluster = Cluster::start(&previous).await;
        without_a_failed_request(&mut cluster, async |cluster| cluster.roll(&this, &order).await).await;
    }
}
