//! `cargo xtask bench`: figures, measured on the machine at hand and printed next to one another.

mod artifacts;
mod cpu;
mod deployments;
mod jobs;
mod platform;
mod registry;
mod replicas;
mod serving;
mod swap;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use clap::Subcommand;

use crate::build::{self, Programs, run};
use crate::endpoints::Endpoints;

const BYTES_PER_MIB: f64 = 1024.0 * 1024.0;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Time from `slipway up` to all-ready, first on an empty data directory, then on the same one again; and
    /// the memory of each part when it is idle.
    Up {
        /// Warm starts to measure.
        #[arg(long, default_value_t = 5, value_name = "N")]
        rounds: u32,
    },
    /// Time from the decision to promote to the first answer by the new version, and from the decision to
    /// roll back to the last answer by the bad one, under a closed loop of requests.
    Swap {
        /// Promotions and rollbacks.
        #[arg(long, default_value_t = 10, value_name = "N")]
        rounds: u32,
        /// Number of closed-loop clients.
        #[arg(long, default_value_t = 4, value_name = "N")]
        clients: u32,
        /// Uses an optimized build.
        #[arg(long)]
        release: bool,
    },
    /// What many deployments cost: NATS messages of an idle platform, time and status writes to create them,
    /// and the time until a moved alias or the kill switch has its effect on every replica.
    Deployments(deployments::Options),
    /// Requests per second, latency and processor time of the tracking server's operations, next to an
    /// `mlflow server` on the same Postgres on request.
    Registry(registry::Options),
    /// Millions of metric points in one experiment: how fast they come in, and how long one key's history
    /// takes to read.
    Points(registry::points::Options),
    /// Artifacts through the registry next to the S3 server itself, and the registry's memory during a very
    /// large one.
    Artifacts(artifacts::Options),
    /// A training job: the speed of a large checkpoint and of a resume next to the S3 server itself, how much
    /// slower the training is meanwhile, and the memory and size of the agent.
    Jobs(jobs::Options),
    /// Processor time of one check of a caller: API tokens and identity tokens, with few and many roles and
    /// tokens. Fails if a check takes more than 5 µs.
    Access,
    /// Several replicas of each service on one Postgres, NATS and S3: statements per second and connections
    /// of Postgres while nothing happens.
    Replicas(replicas::Options),
    /// Requests per second, latency and processor time of predictions over REST and gRPC, as a Markdown
    /// table; next to Triton, where `tritonserver` is on PATH. Needs wrk and h2load.
    Serving(serving::Options),
}

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<()> {
    if cfg!(debug_assertions) && bench.is_its_own_client() {
        return again_optimised();
    }
    match bench {
        Bench::Up { rounds } => up(*rounds),
        Bench::Swap { rounds, clients, release } => swap::measure(*rounds, *clients, *release),
        Bench::Deployments(options) => deployments::measure(options),
        Bench::Registry(options) => registry::measure(options),
        Bench::Points(options) => registry::points::measure(options),
        Bench::Artifacts(options) => artifacts::measure(options),
        Bench::Jobs(options) => jobs::measure(options),
        Bench::Access => run(build::cargo().args(["bench", "-p", "slipway-access", "--bench", "check"])),
        Bench::Replicas(options) => replicas::measure(options),
        Bench::Serving(options) => serving::measure(options),
    }
}

impl Bench {
    /// Whether this program is the client whose speed counts, on the cores that the servers have as well.
    const fn is_its_own_client(&self) -> bool {
        matches!(self, Self::Registry(_) | Self::Points(_) | Self::Artifacts(_) | Self::Jobs(_))
    }
}

/// The same command by this program built with optimisations.
fn again_optimised() -> anyhow::Result<()> {
    let mut command = build::cargo();
    command
        .args(["run", "--release", "--quiet", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1));
    run(&mut command)
}

fn up(rounds: u32) -> anyhow::Result<()> {
    build::toolbox()?;
    let programs = build::programs(true)?;
    let data_dir = data_dir();
    clear(&data_dir)?;
    let first = start(&programs, &data_dir)?;
    stop(&programs, &data_dir)?;
    let mut warm = Vec::new();
    for round in 0..rounds.max(1) {
        warm.push(start(&programs, &data_dir)?);
        if round + 1 == rounds.max(1) {
            // What a part holds once it is idle, not what it held while it started.
            std::thread::sleep(std::time::Duration::from_secs(3));
            show_memory(&data_dir)?;
        }
        stop(&programs, &data_dir)?;
    }
    warm.sort_by(f64::total_cmp);
    let median = warm.get(warm.len() / 2).copied().unwrap_or_default();
    println!("\nfirst start on an empty data directory: {first:.2} s");
    println!("warm start to all-ready: median {median:.2} s of {} (release build)", warm.len());
    Ok(())
}

/// Where the platform that is measured keeps its data.
fn data_dir() -> PathBuf {
    build::root().join(".slipway/bench")
}

fn clear(data_dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(data_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", data_dir.display()))
        }
        _ => Ok(()),
    }
}

/// Runs `measurement` against a platform on an empty data directory, which is stopped whatever comes of it.
fn on_a_platform<T>(
    release: bool,
    measurement: impl AsyncFnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    on_a_platform_with(&[], release, measurement)
}

/// As [`on_a_platform`], with further settings of the platform.
fn on_a_platform_with<T>(
    variables: &[(&str, &Path)],
    release: bool,
    measurement: impl AsyncFnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    build::toolbox()?;
    let programs = build::programs(release)?;
    let data_dir = data_dir();
    clear(&data_dir)?;
    start_with(variables, &programs, &data_dir)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(measurement(&data_dir));
    stop(&programs, &data_dir)?;
    outcome
}

/// Seconds until `slipway up --detach` says that all is ready.
fn start(programs: &Programs, data_dir: &Path) -> anyhow::Result<f64> {
    start_with(&[], programs, data_dir)
}

/// As [`start`], with further settings.
fn start_with(variables: &[(&str, &Path)], programs: &Programs, data_dir: &Path) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut command = Command::new(&programs.slipway);
    command.envs(variables.iter().copied());
    command.args(["up", "--ports", "auto", "--detach", "--data-dir"]).arg(data_dir);
    run(command.stdout(std::process::Stdio::null()))?;
    Ok(started.elapsed().as_secs_f64())
}

fn stop(programs: &Programs, data_dir: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(&programs.slipway);
    command.args(["down", "--data-dir"]).arg(data_dir);
    run(command.stdout(std::process::Stdio::null()))
}

fn show_memory(data_dir: &Path) -> anyhow::Result<()> {
    const SERVERS: [&str; 3] = ["postgres", "nats", "s3"];
    let endpoints = Endpoints::read(data_dir)?;
    let mut total = 0.0;
    println!("\n{:<20} {:>10}", "part, idle", "MiB (PSS)");
    for (name, pid) in endpoints.pids() {
        let Some(bytes) = proportional_bytes(pid) else { continue };
        println!("{name:<20} {:>10.1}", bytes / BYTES_PER_MIB);
        if !SERVERS.contains(&name) {
            total += bytes;
        }
    }
    println!("{:<20} {:>10.1}", "our services", total / BYTES_PER_MIB);
    Ok(())
}

/// Largest resident set size of a process so far.
fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no peak of memory")?;
    let kibibytes: f64 = line.split_whitespace().nth(1).context("no peak of memory")?.parse()?;
    Ok(kibibytes * 1_024.0 / BYTES_PER_MIB)
}

/// Proportional set size: memory that processes share, such as the program's text, counts once in their sum.
fn proportional_bytes(pid: u32) -> Option<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024.0)
}
