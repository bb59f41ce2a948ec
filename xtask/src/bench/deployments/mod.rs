//! What the number of deployments costs: messages while nothing happens, status writes per created
//! deployment, and the time until an alias or the kill switch has its effect.

mod replicas;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::future::join_all;
use serde_json::{Value, json};
use slipway_toolbox::servers::{self, NatsOptions, NatsUser, Running, free_port};
use slipway_toolbox::{Account, DEFAULT_ACCOUNT, Toolbox};
use tokio::task::JoinHandle;

use self::replicas::Replica;
use self::wire::{Counts, Listener};
use super::cpu::usage;
use super::platform::Platform;
use crate::build::{self, run};
use crate::endpoints::Endpoints;

const MODEL: &str = "tiny";
const MEASURED: &str = "measured";
/// All replicas beside the platform's own.
const FURTHER: &str = "further replicas";
const LIMIT: Duration = Duration::from_secs(120);
/// Pause between two requests of a client that waits for another answer.
const POLL_MS: u64 = 2;
/// Before an idle platform is looked at.
const SETTLE: Duration = Duration::from_secs(8);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Numbers of deployments, ascending, at which to measure.
    #[arg(long, value_delimiter = ',', default_value = "4,300,1000", value_name = "N,N")]
    counts: Vec<usize>,
    /// Replicas of serving, and of the rollout controller.
    #[arg(long, default_value_t = 3, value_name = "N")]
    replicas: usize,
    /// Moves of an alias, and uses of the kill switch, of which the median is shown.
    #[arg(long, default_value_t = 9, value_name = "N")]
    rounds: usize,
    /// Time for which messages of an idle platform are counted, in seconds.
    #[arg(long, default_value_t = 10, value_name = "S")]
    idle_s: u64,
    /// Uses an optimized build.
    #[arg(long)]
    release: bool,
    /// An existing `slipway` program to measure [default: one that is built]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// One line of the result.
struct Row {
    deployments: usize,
    created: usize,
    create: Duration,
    /// Processor seconds by process.
    create_cpu: BTreeMap<String, f64>,
    create_messages: Counts,
    idle: Counts,
    alias_first: Spread,
    alias_all: Spread,
    kill: Spread,
}

/// Milliseconds, sorted.
struct Spread(Vec<f64>);

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times.iter().map(|time| time.as_secs_f64() * 1e3).collect())
    }

    fn shown(&self) -> String {
        let at = |place: usize| self.0.get(place).copied().unwrap_or_default();
        format!("{:.0} ({:.0}–{:.0})", at(self.0.len() / 2), at(0), at(self.0.len().saturating_sub(1)))
    }
}

pub(super) fn measure(options: &Options) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    build::toolbox()?;
    let slipway = match &options.program {
        Some(program) => program.clone(),
        None => build::programs(options.release)?.slipway,
    };
    let data_dir = super::data_dir();
    super::clear(&data_dir)?;
    std::fs::create_dir_all(&data_dir)?;
    let nats = start_nats(&data_dir)?;
    let up = |command: &str, more: &[&str]| {
        let mut up = Command::new(&slipway);
        up.arg(command).arg("--data-dir").arg(&data_dir).args(more).stdout(Stdio::null());
        run(&mut up)
    };
    up("up", &["--ports", "auto", "--detach", "--nats-url", &nats.url])?;
    let runtime = tokio::runtime::Runtime::new()?;
    let rows = runtime.block_on(rows(options, &data_dir, &nats.url));
    up("down", &[])?;
    report(&rows?, options);
    Ok(())
}

/// A server with one user, who sees every message.
fn start_nats(data_dir: &Path) -> anyhow::Result<Running> {
    let (running, _) = servers::start_nats(&NatsOptions {
        program: Toolbox::from_env()?.nats_server(&mut |_| {})?,
        dir: data_dir.join("own-nats"),
        log_dir: data_dir.join("own-nats-logs"),
        port: free_port()?,
        account: Account::for_servers(DEFAULT_ACCOUNT)?,
        users: vec![NatsUser::unlimited("bench")],
    })?;
    Ok(running)
}

async fn rows(options: &Options, data_dir: &Path, nats_url: &str) -> anyhow::Result<Vec<Row>> {
    let endpoints = Endpoints::read(data_dir)?;
    let client = Platform::new(endpoints.clone(), MODEL, LIMIT);
    for fixture in ["right-1.onnx", "right-2.onnx"] {
        client.register(fixture).await?;
    }
    let mut serving = vec![endpoints.url("serving_http")?.to_owned()];
    let mut further = Vec::new();
    for number in 1..options.replicas {
        further.push(Replica::like(endpoints.pid("rollout_controller")?, data_dir, number).await?);
        let replica = Replica::like(endpoints.pid("serving")?, data_dir, number).await?;
        serving.push(replica.url.clone());
        further.push(replica);
    }
    let mut processes: BTreeMap<String, Vec<u32>> =
        endpoints.pids().map(|(name, pid)| (name.to_owned(), vec![pid])).collect();
    for replica in &further {
        processes.entry(FURTHER.to_owned()).or_default().push(replica.pid());
    }
    let listener = Listener::start(nats_url).await?;
    let (mut rows, mut existing) = (Vec::new(), 0);
    client.set_alias("1").await?;
    for count in &options.counts {
        let measured = Measured {
            options,
            client: &client,
            serving: &serving,
            processes: &processes,
            listener: &listener,
        };
        rows.push(measured.row(existing, *count).await?);
        existing = *count;
    }
    Ok(rows)
}

struct Measured<'run> {
    options: &'run Options,
    client: &'run Platform,
    serving: &'run [String],
    processes: &'run BTreeMap<String, Vec<u32>>,
    listener: &'run Listener,
}

impl Measured<'_> {
    async fn row(&self, existing: usize, count: usize) -> anyhow::Result<Row> {
        self.listener.since();
        let before = self.cpu()?;
        let started = Instant::now();
        for number in existing..count {
            let name = if number == 0 { MEASURED.to_owned() } else { format!("d-{number}") };
            self.client.deploy(&name).await?;
        }
        let create = started.elapsed();
        let last = if count == 1 { MEASURED.to_owned() } else { format!("d-{}", count - 1) };
        for (name, url) in [(MEASURED, &self.serving[0]), (last.as_str(), &self.serving[0])] {
            self.client.answers(url, name, |answer| answer.is_ok()).await?;
        }
        tokio::time::sleep(SETTLE).await;
        let create_messages = self.listener.since();
        let mut create_cpu = self.cpu()?;
        for (process, seconds) in &mut create_cpu {
            *seconds -= before.get(process).copied().unwrap_or_default();
        }
        tokio::time::sleep(Duration::from_secs(self.options.idle_s)).await;
        let idle = self.listener.since();
        let (alias_first, alias_all) = self.alias().await?;
        let kill = self.kill().await?;
        Ok(Row {
            deployments: count,
            created: count - existing,
            create,
            create_cpu,
            create_messages,
            idle,
            alias_first,
            alias_all,
            kill,
        })
    }

    /// Processor seconds of each process so far.
    fn cpu(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let used = |(name, pids): (&String, &Vec<u32>)| Ok((name.clone(), usage(pids)?.cpu_seconds));
        self.processes.iter().map(used).collect()
    }

    /// Until the first, and the last, replica answers by the version that the alias points at.
    async fn alias(&self) -> anyhow::Result<(Spread, Spread)> {
        let (mut first, mut all) = (Vec::new(), Vec::new());
        for round in 0..self.options.rounds {
            let version = if round.is_multiple_of(2) { "2" } else { "1" };
            let waiting = self.everywhere(move |answer| answer.as_deref() == Ok(version));
            self.client.set_alias(version).await?;
            let set = Instant::now();
            let times = waiting.times().await?;
            let since = times.iter().map(|at| at.saturating_duration_since(set));
            first.extend(since.clone().min());
            all.extend(since.max());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok((Spread::of(first), Spread::of(all)))
    }

    /// Until no replica answers any more.
    async fn kill(&self) -> anyhow::Result<Spread> {
        let mut times = Vec::new();
        for _ in 0..self.options.rounds {
            let waiting = self.everywhere(|answer| answer.is_err());
            let path = format!("/api/v1/deployments/{MEASURED}/kill-switch");
            let asked = Instant::now();
            self.client.send("rollout_controller", "PUT", &path, &json!({"mode": "refuse"})).await?;
            let last = waiting.times().await?.into_iter().max().context("there are no replicas")?;
            times.push(last.saturating_duration_since(asked));
            self.client.send("rollout_controller", "DELETE", &path, &json!({})).await?;
            self.everywhere(|answer| answer.is_ok()).times().await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(Spread::of(times))
    }

    /// Has a client ask each replica from now on until it answers as wanted.
    fn everywhere(&self, wanted: impl Fn(&Answer) -> bool + Copy + Send + 'static) -> Asked {
        let asking = self.serving.iter().map(|url| {
            let (client, url) = (self.client.clone(), url.clone());
            tokio::spawn(async move { client.answers(&url, MEASURED, wanted).await })
        });
        Asked(asking.collect())
    }
}

/// The version that answered, or why none did.
type Answer = Result<String, String>;

/// Clients that ask until they are answered as wanted.
struct Asked(Vec<JoinHandle<anyhow::Result<Instant>>>);

impl Asked {
    /// When each of them was.
    async fn times(self) -> anyhow::Result<Vec<Instant>> {
        let mut times = Vec::new();
        for answered in join_all(self.0).await {
            times.push(answered??);
        }
        Ok(times)
    }
}

impl Platform {
    async fn set_alias(&self, version: &str) -> anyhow::Result<()> {
        let body = json!({"name": MODEL, "alias": MEASURED, "version": version});
        self.send("registry", "POST", "/api/2.0/mlflow/registered-models/alias", &body).await.map(drop)
    }

    /// Only the measured deployment follows the alias.
    async fn deploy(&self, name: &str) -> anyhow::Result<()> {
        let mut body =
            json!({"name": name, "model": MODEL, "version": "1", "default_strategy": {"steps": []}});
        if name == MEASURED {
            body["watch_alias"] = json!(MEASURED);
        }
        self.send("rollout_controller", "POST", "/api/v1/deployments", &body).await.map(drop)
    }

    /// Asks a replica until it answers as wanted; when that was.
    async fn answers(
        &self,
        url: &str,
        deployment: &str,
        wanted: impl Fn(&Answer) -> bool,
    ) -> anyhow::Result<Instant> {
        let body =
            json!({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 0.0]}]});
        let started = Instant::now();
        let mut last = Err(String::new());
        while started.elapsed() < LIMIT {
            let request = self.http.post(format!("{url}/v2/models/{deployment}/infer")).json(&body);
            let response = request.timeout(LIMIT).send().await?;
            let (status, answer) = (response.status(), response.json::<Value>().await.unwrap_or_default());
            last = if status.is_success() {
                Ok(answer["model_version"].as_str().unwrap_or_default().to_owned())
            } else {
                Err(answer["error"].as_str().unwrap_or_default().to_owned())
            };
            if wanted(&last) {
                return Ok(Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
        bail!("{deployment} at {url} never answered as expected: {last:?}")
    }
}

fn report(rows: &[Row], options: &Options) {
    for row in rows.iter().filter(|row| row.created > 0) {
        let share = |seconds: f64| seconds * 1e3 / row.created as f64;
        let mut used: Vec<(&String, f64)> =
            row.create_cpu.iter().map(|(process, seconds)| (process, share(*seconds))).collect();
        used.sort_by(|one, other| other.1.total_cmp(&one.1));
        let shown: Vec<String> = used.iter().map(|(process, ms)| format!("{process} {ms:.1}")).collect();
        println!("CPU ms per deployment, {} created: {}", row.created, shown.join(", "));
    }
    let per_s = |counts: &Counts, about: &str| {
        let count = counts.get(about).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand messages")]
        let rate = count as f64 / options.idle_s as f64;
        format!("{rate:.1}")
    };
    println!("\n{} replicas of serving and of the rollout controller each", options.replicas);
    println!(
        "| deployments | created, s | status writes for that | table writes | idle: status/s | tables/s | \
         buckets/s | other/s | alias → first answer, ms | → all replicas | kill switch everywhere, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let created = |about: &str| row.create_messages.get(about).copied().unwrap_or_default();
        let tables = ["table", "table read"].map(|about| row.idle.get(about).copied().unwrap_or_default());
        let tables = Counts::from([("tables", tables.iter().sum())]);
        println!(
            "| {} | {}: {:.1} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.deployments,
            row.created,
            row.create.as_secs_f64(),
            created("status"),
            created("table"),
            per_s(&row.idle, "status"),
            per_s(&tables, "tables"),
            per_s(&row.idle, "bucket"),
            per_s(&row.idle, "other"),
            row.alias_first.shown(),
            row.alias_all.shown(),
            row.kill.shown(),
        );
    }
}
