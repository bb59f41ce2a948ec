//! Several replicas of each service on one Postgres, NATS and S3: what they cost while nothing happens.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use nix::sys::signal::Signal;
use slipway_toolbox::servers::{
    self, NatsOptions, NatsUser, PostgresOptions, Running, S3Keys, S3Options, free_port,
};
use slipway_toolbox::{Account, DEFAULT_ACCOUNT, Toolbox, process};
use sqlx::{Connection as _, PgConnection};

use crate::build::{self, Programs};
use crate::progress::step;

const READY_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// After the start: pools shrink, and leaders are found.
const SETTLE: Duration = Duration::from_secs(10);
/// Statements that are shown.
const TOP: usize = 12;
const SHOWN_CHARS: usize = 90;
/// Each service with the variable by which others find it.
const SERVICES: [(&str, &str); 5] = [
    ("registry", "SLIPWAY_REGISTRY_URL"),
    ("launcher", "SLIPWAY_LAUNCHER_URL"),
    ("serving", "SLIPWAY_SERVING_URL"),
    ("rollout-controller", "SLIPWAY_ROLLOUT_CONTROLLER_URL"),
    ("drift-monitor", "SLIPWAY_DRIFT_MONITOR_URL"),
];

/// How to measure replicas.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Replicas of each service.
    #[arg(long, default_value_t = 3, value_name = "N")]
    replicas: usize,
    /// Duration of the measurement.
    #[arg(long, default_value_t = 20.0, value_name = "SECONDS")]
    seconds: f64,
    /// Uses an optimized build.
    #[arg(long)]
    release: bool,
}

pub(super) fn measure(options: &Options) -> anyhow::Result<()> {
    build::toolbox()?;
    let programs = build::programs(options.release)?;
    let dir = super::data_dir().join("replicas");
    super::clear(&dir)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let servers = step("start Postgres, NATS and S3", || Servers::start(&dir))?;
    runtime.block_on(log_statements(&servers.postgres.url))?;
    let replicas = step(&format!("start {} replicas of each service", options.replicas), || {
        let replicas = Replicas::start(&programs, &servers, &dir, options.replicas)?;
        runtime.block_on(replicas.ready())?;
        Ok(replicas)
    })?;
    std::thread::sleep(SETTLE);
    let mut log = Log::at_its_end(&servers.postgres.log)?;
    std::thread::sleep(Duration::from_secs_f64(options.seconds));
    let statements = log.statements()?;
    let connections = runtime.block_on(connections(&servers.postgres.url))?;
    drop(replicas);
    show(&statements, &connections, options);
    Ok(())
}

fn show(statements: &BTreeMap<String, u64>, connections: &[(String, i64)], options: &Options) {
    let all: u64 = statements.values().sum();
    println!("\n{} idle replicas of each service, {:.0} s", options.replicas, options.seconds);
    println!("Postgres: {:.1} statements per second", per_second(all, options.seconds));
    let mut sorted: Vec<(&String, &u64)> = statements.iter().collect();
    sorted.sort_by(|one, other| other.1.cmp(one.1));
    for (statement, count) in sorted.into_iter().take(TOP) {
        println!("  {:>7.2}  {statement}", per_second(*count, options.seconds));
    }
    let total: i64 = connections.iter().map(|(_, count)| count).sum();
    println!("Postgres: {total} connections");
    for (service, count) in connections {
        println!("  {count:>7}  {service}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// Has each statement of later sessions logged: the servers at hand have no `pg_stat_statements`.
async fn log_statements(url: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql("ALTER DATABASE slipway SET log_statement = 'all'").execute(&mut connection).await?;
    Ok(())
}

/// Connections by the name that each service gives them.
async fn connections(url: &str) -> anyhow::Result<Vec<(String, i64)>> {
    let mut connection = PgConnection::connect(url).await?;
    let counted = sqlx::query_as(
        "SELECT application_name, count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1 ORDER BY 1",
    );
    Ok(counted.fetch_all(&mut connection).await?)
}

/// The log of Postgres, from a place on.
struct Log {
    path: PathBuf,
    from: u64,
}

impl Log {
    fn at_its_end(path: &Path) -> anyhow::Result<Self> {
        let length = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
        Ok(Self { path: path.to_owned(), from: length })
    }

    /// How often each statement was logged.
    fn statements(&mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut file = std::fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut counted = BTreeMap::new();
        for statement in String::from_utf8_lossy(&bytes).lines().filter_map(statement) {
            *counted.entry(statement).or_default() += 1;
        }
        Ok(counted)
    }
}

/// The statement of a line of the log, shortened.
fn statement(line: &str) -> Option<String> {
    let text = match line.split_once("LOG:  statement: ") {
        Some((_, text)) => text,
        None => line.split_once("LOG:  execute ")?.1.split_once(": ")?.1,
    };
    Some(text.chars().take(SHOWN_CHARS).collect())
}

/// The servers that the replicas share.
struct Servers {
    postgres: Running,
    nats: Running,
    s3: Running,
    keys: S3Keys,
    onnxruntime: PathBuf,
}

impl Servers {
    fn start(dir: &Path) -> anyhow::Result<Self> {
        let (toolbox, account) = (Toolbox::from_env()?, Account::for_servers(DEFAULT_ACCOUNT)?);
        let log_dir = dir.join("logs");
        std::fs::create_dir_all(&log_dir)?;
        let mut quiet = |_: &str| {};
        let (postgres, _) = servers::start_postgres(&PostgresOptions {
            binaries: toolbox.postgres(&mut quiet)?,
            dir: dir.join("postgres"),
            log_dir: log_dir.clone(),
            port: free_port()?,
            account,
            roles: Vec::new(),
        })?;
        let (nats, _) = servers::start_nats(&NatsOptions {
            program: toolbox.nats_server(&mut quiet)?,
            dir: dir.join("nats"),
            log_dir: log_dir.clone(),
            port: free_port()?,
            account,
            users: vec![NatsUser::unlimited("bench")],
        })?;
        let (s3, keys) = servers::start_s3(&S3Options {
            program: toolbox.weed(&mut quiet)?,
            dir: dir.join("s3"),
            log_dir,
            port: free_port()?,
            account,
        })?;
        let onnxruntime = toolbox.onnxruntime_library(&mut quiet)?;
        Ok(Self { postgres, nats, s3, keys, onnxruntime })
    }
}

/// The processes; they end when dropped.
struct Replicas {
    processes: Vec<Child>,
    /// Of each process, the address of its REST API.
    urls: Vec<String>,
}

impl Replicas {
    fn start(programs: &Programs, servers: &Servers, dir: &Path, count: usize) -> anyhow::Result<Self> {
        let mut ports = Vec::new();
        for _ in 0..SERVICES.len() * count {
            ports.push(free_port()?);
        }
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let first = |service: usize| ports.get(service * count).map(url).unwrap_or_default();
        let mut started = Self { processes: Vec::new(), urls: ports.iter().map(url).collect() };
        for (number, port) in ports.iter().enumerate() {
            let Some((service, _)) = SERVICES.get(number / count) else { continue };
            let replica = format!("{service}-{}", number % count);
            let data = dir.join(&replica);
            std::fs::create_dir_all(&data)?;
            let log = std::fs::File::create(dir.join("logs").join(format!("{replica}.log")))?;
            let mut command = Command::new(&programs.slipway);
            command
                .args(["service", service])
                .env("SLIPWAY_LISTEN", format!("127.0.0.1:{port}"))
                .env("SLIPWAY_LISTEN_GRPC", format!("127.0.0.1:{}", free_port()?))
                .env("SLIPWAY_LISTEN_METRICS", format!("127.0.0.1:{}", free_port()?))
                .env("SLIPWAY_POSTGRES_URL", &servers.postgres.url)
                .env("SLIPWAY_NATS_URL", &servers.nats.url)
                .env("SLIPWAY_S3_ENDPOINT", &servers.s3.url)
                .env("SLIPWAY_S3_ACCESS_KEY", &servers.keys.access_key)
                .env("SLIPWAY_S3_SECRET_KEY", &servers.keys.secret_key)
                .env("SLIPWAY_ONNXRUNTIME_LIB", &servers.onnxruntime)
                .env("SLIPWAY_DATA_DIR", &data)
                .env("SLIPWAY_CACHE_DIR", &data)
                .envs(SERVICES.iter().enumerate().map(|(service, (_, variable))| (variable, first(service))))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            process::die_with_parent(&mut command);
            started.processes.push(command.spawn().with_context(|| format!("{command:?}"))?);
        }
        Ok(started)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let (http, started) = (reqwest::Client::new(), Instant::now());
        for url in &self.urls {
            loop {
                let answer = http.get(format!("{url}/readyz")).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                if started.elapsed() > READY_LIMIT {
                    bail!("{url} is not ready; see the logs in {}", super::data_dir().display());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for child in &mut self.processes {
            process::stop(child, Signal::SIGTERM, STOP_LIMIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_taken_from_the_log_however_they_were_sent() {
        let of = |line: &str| statement(line).unwrap_or_default();
        assert_eq!(of("2026-01-01 00:00:00.000 UTC [1] LOG:  statement: BEGIN"), "BEGIN");
        let executed = "2026-01-01 UTC [1] LOG:  execute sqlx_s_12: SELECT seq FROM outbox";
        assert_eq!(of(executed), "SELECT seq FROM outbox");
        assert_eq!(of("2026-01-01 UTC [1] DETAIL:  Parameters: $1 = '7'"), "");
    }
}
