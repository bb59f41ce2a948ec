//! `cargo xtask chaos`: three replicas of every service under load, faults at random, and the invariants of
//! docs/architecture.md checked all the while and afterwards. docs/development/chaos.md explains it.

mod board;
mod checks;
mod clocks;
mod conductor;
mod disks;
mod facts;
mod faults;
mod history;
mod journal;
mod load;
mod nats;
mod plan;
mod processes;
mod proxy;
mod servers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use slipway_toolbox::servers::free_port;
use tokio::runtime::Runtime;

use crate::build::{self, Programs, root};
use crate::progress::step;
use board::{Board, now_ms};
use clocks::Clocks;
use conductor::{Conductor, Links, Parts};
use disks::Disks;
use faults::{Fault, NATS_NODES, Replica, Server, Service};
use journal::{Journal, Shared};
use load::{Client, Load};
use processes::{Environment, Fleet};
use proxy::Link;
use servers::Servers;

const READY_LIMIT: Duration = Duration::from_secs(180);
/// After the last fault the platform is as it should be within this time.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// Jobs take longer: a lost attempt holds its lease, and a monitor repeats a lost action after a minute.
const JOBS_LIMIT: Duration = Duration::from_secs(90);
/// The same while the machine is overloaded.
const SETTLE_LIMIT: Duration = Duration::from_secs(300);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Seconds per fault, unless given.
const SECONDS_PER_FAULT: f64 = 3.0;

/// The run that belongs to `cargo xtask test`, whose plan has faults of all kinds.
const SHORT_SEED: u64 = 81_570;
const SHORT_FAULTS: usize = 15;

/// Arguments of `cargo xtask chaos`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Seed of the plan of faults [default: random].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Number of faults.
    #[arg(long, default_value_t = 25, value_name = "N")]
    faults: usize,
    /// Time in which the faults happen, in seconds [default: 3 per fault].
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Keeps logs and data in target/chaos also if all is well.
    #[arg(long)]
    keep: bool,
    /// Uses an optimized build.
    #[arg(long)]
    release: bool,
}

impl Options {
    /// A run of little more than a minute, the same faults each time.
    pub(crate) const fn short() -> Self {
        Self { seed: Some(SHORT_SEED), faults: SHORT_FAULTS, seconds: None, keep: false, release: false }
    }
}

/// What a run found.
#[derive(Debug)]
struct Outcome {
    violations: Vec<String>,
    /// Kinds of faults that were not possible here, and how many of each were planned.
    left_out: BTreeMap<String, usize>,
}

impl Outcome {
    /// In one line, for those who have to know what was not tested.
    fn left_out(&self) -> String {
        let kinds: Vec<String> =
            self.left_out.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if kinds.is_empty() { String::new() } else { format!("; left out: {}", kinds.join(", ")) }
    }
}

/// Runs it; an error if an invariant was violated.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    build::toolbox()?;
    let programs = build::programs(options.release)?;
    against(&programs, options)
}

/// A run against programs that are built.
pub(crate) fn against(programs: &Programs, options: &Options) -> anyhow::Result<()> {
    // Without TLS, but a client requires a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let seconds = options.seconds.unwrap_or(options.faults as f64 * SECONDS_PER_FAULT);
    let release = if options.release { " --release" } else { "" };
    let faults = options.faults;
    let again = format!("cargo xtask chaos --seed {seed} --faults {faults} --seconds {seconds}{release}");
    println!("{again}");
    let dir = fresh_folder()?;
    for folder in ["logs", "jobs"] {
        std::fs::create_dir_all(dir.join(folder))?;
    }
    let faults = plan::plan(seed, options.faults, (seconds * 1_000.0) as u64);
    let outcome = carry_out(programs, &dir, &faults, seed)?;
    let (found, left_out) = (&outcome.violations, outcome.left_out());
    if !found.is_empty() {
        for violation in found {
            println!("violation: {violation}");
        }
        println!("logs and data: {}", dir.display());
        anyhow::bail!("{} violations with seed {seed}{left_out}; to repeat: {again} --keep", found.len());
    }
    if !options.keep {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    println!("no violations: {} faults, seed {seed}{left_out}", faults.len());
    Ok(())
}

/// A folder of this process in `target/chaos`. Those of processes that have ended are removed.
fn fresh_folder() -> anyhow::Result<PathBuf> {
    const SUFFIX: &str = "-run";
    let all = root().join("target/chaos");
    for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let runs = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).is_some_and(|pid| {
            pid != std::process::id().to_string() && Path::new("/proc").join(pid).exists()
        });
        if !runs {
            let path = entry.path();
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(all.join(format!("{}{SUFFIX}", std::process::id())))
}

/// Starts the platform, harms it, and returns what was violated.
fn carry_out(programs: &Programs, dir: &Path, faults: &[Fault], seed: u64) -> anyhow::Result<Outcome> {
    // Before any thread is started: they see the mounts of the one that starts them.
    let disks = Disks::mount(dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let servers = step("start Postgres, NATS and S3", || Servers::start(dir))?;
    let ports: Vec<u16> = Replica::all().map(|_| free_port()).collect::<Result<_, _>>()?;
    let (board, journal) = (Arc::new(Board::new(ports)), Arc::new(Shared::default()));
    let (mut environments, links) = runtime.block_on(wire(&servers, &board))?;
    let clocks = Clocks::new(dir)?;
    for (replica, environment) in &mut environments {
        environment.extend(clocks.environment(*replica));
    }
    let mut fleet = Fleet::new(&programs.slipway, dir, environments);
    step("start three replicas of each service", || {
        Replica::all().try_for_each(|replica| fleet.start(replica))?;
        runtime.block_on(async { board.watch() })?;
        wait_until_ready(&board, || Ok(()))
    })?;
    let mut load =
        step("deploy the first version", || runtime.block_on(Load::start(&board, &journal, dir, seed)))?;
    let parts = Parts { servers: &servers, fleet, links, clocks, disks };
    let mut conductor = Conductor::new(parts, &board, &journal, dir);
    step("harm it", || conductor.conduct(&plan::timeline(faults)))?;
    let quiet_ms = now_ms();
    // One that started while a server was down may have ended, and is started again.
    step("wait until every replica is ready", || wait_until_ready(&board, || conductor.look()))?;
    step("end what changes something", || {
        runtime.block_on(load.stop_writing());
        Ok(())
    })?;
    let settled = step("check", || settle(&runtime, &mut conductor, quiet_ms));
    runtime.block_on(load.stop());
    settled?;
    summarize(&journal.lock(), conductor.found.len());
    let overloaded_ms = board.history().overloaded_ms();
    if overloaded_ms > 0 {
        println!(
            "    {:>7}  overload of the machine, which excuses failures",
            faults::seconds(overloaded_ms)
        );
    }
    let violations = conductor.found.iter().cloned().collect();
    Ok(Outcome { violations, left_out: conductor.left_out })
}

/// Proxies between everything, and the environment of each replica with their addresses.
async fn wire(
    servers: &Servers,
    board: &Arc<Board>,
) -> anyhow::Result<(BTreeMap<Replica, Environment>, Links)> {
    let mut common = Environment::new();
    for service in Service::ALL {
        let port = proxy::balance(service, Arc::clone(board)).await?;
        common.insert(service.url_variable().to_owned(), format!("http://127.0.0.1:{port}"));
    }
    let keys = &servers.keys;
    common.insert("SLIPWAY_S3_ACCESS_KEY".to_owned(), keys.s3_access_key.clone());
    common.insert("SLIPWAY_S3_SECRET_KEY".to_owned(), keys.s3_secret_key.clone());
    common.insert("SLIPWAY_NATS_REPLICAS".to_owned(), NATS_NODES.to_string());
    common.insert("SLIPWAY_ONNXRUNTIME_LIB".to_owned(), servers.onnxruntime.display().to_string());
    let (mut environments, mut links) = (BTreeMap::new(), Links::new());
    for replica in Replica::all() {
        let mut environment = common.clone();
        for (server, variable) in Server::ALL.into_iter().zip(SERVER_VARIABLES) {
            let mut own = Vec::new();
            for port in keys.ports(server) {
                own.push(Link::to(*port).await?);
            }
            let ports: Vec<u16> = own.iter().map(|link| link.port).collect();
            environment.insert(variable.to_owned(), keys.through(server, &ports));
            links.insert((replica, server), own);
        }
        let listens = [("SLIPWAY_LISTEN", board.port(replica))];
        let further = [("SLIPWAY_LISTEN_GRPC", free_port()?), ("SLIPWAY_LISTEN_METRICS", free_port()?)];
        for (variable, port) in listens.into_iter().chain(further) {
            environment.insert(variable.to_owned(), format!("127.0.0.1:{port}"));
        }
        environments.insert(replica, environment);
    }
    Ok((environments, links))
}

/// Variables with the addresses of [`Server::ALL`].
const SERVER_VARIABLES: [&str; 3] = ["SLIPWAY_POSTGRES_URL", "SLIPWAY_NATS_URL", "SLIPWAY_S3_ENDPOINT"];

fn wait_until_ready(board: &Board, mut meanwhile: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let missing = board.not_ready();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        anyhow::ensure!(started.elapsed() < READY_LIMIT, "not ready: {}", names.join(", "));
        meanwhile()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Checks until all is as it should be, or the time is up.
fn settle(runtime: &Runtime, conductor: &mut Conductor<'_>, quiet_ms: u64) -> anyhow::Result<()> {
    let (board, journal) = (Arc::clone(&conductor.board), Arc::clone(&conductor.journal));
    let client = Client::new(Arc::clone(&board), Arc::clone(&journal), Arc::new(AtomicBool::new(false)))?;
    loop {
        let facts = runtime.block_on(facts::gather(&conductor.servers.keys, &client, conductor.dir));
        conductor.look()?;
        let running = Duration::from_millis(board.history().running_ms(quiet_ms, now_ms()));
        let over = Duration::from_millis(now_ms() - quiet_ms) > SETTLE_LIMIT;
        let (late, jobs_late) = (over || running > QUIET_LIMIT, over || running > JOBS_LIMIT);
        let found = match &facts {
            Ok(facts) => checks::settled(&journal.lock(), facts),
            Err(error) => vec![format!("cannot check: {error:#}")],
        };
        let is_job = |violation: &String| violation.starts_with("job ");
        let (jobs, others): (Vec<String>, Vec<String>) = found.into_iter().partition(is_job);
        if jobs.is_empty() && others.is_empty() || late && !others.is_empty() || jobs_late {
            for violation in others.into_iter().chain(jobs) {
                conductor.report(format!("{violation} ({} ms after the last fault)", now_ms() - quiet_ms));
            }
            if let Ok(facts) = facts {
                let overlapping =
                    facts.jobs.iter().flat_map(|job| checks::overlaps(job.number, &job.attempts));
                if board.history().longest_pause_ms() < conductor::MAX_PAUSE_MS {
                    overlapping.for_each(|violation| conductor.report(violation));
                } else {
                    println!("    attempts of jobs are not compared: the machine stood still");
                }
                let predictions = journal.lock().predictions.clone();
                let found = checks::out_of_turn(&predictions, &facts.events, &board.history());
                found.into_iter().for_each(|violation| conductor.report(violation));
                println!("    {} events, {} rollouts", facts.events.len(), facts.rollouts.len());
            }
            return Ok(());
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn summarize(journal: &Journal, violations: usize) {
    for (kind, answered) in &journal.answered {
        println!("    {answered:>7}  {kind}");
    }
    println!("    {:>7}  failed and were sent to another replica", journal.judged + journal.failures.len());
    println!("    {violations:>7}  violations");
}
