//! Serving under load from wrk (REST) and h2load (gRPC), next to Triton where it is installed and ONNX
//! Runtime alone.

mod features;
mod load;
mod many;
mod server;
mod soak;
mod starts;
mod turns;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use slipway_toolbox::Toolbox;

use self::load::{Figure, Protocol};
use self::server::{Peer, Server, Setup};
use super::BYTES_PER_MIB;
use crate::build::{self, root};
use crate::progress::step;
use crate::venv;

/// Clients of a machine that is busy.
const MANY: u32 = 64;
/// After the load, until memory is looked at again.
const IDLE: Duration = Duration::from_secs(12);

/// How serving is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Duration of each load, in seconds, after a warm-up.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u32,
    /// Measures only loads whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also measures ten times as many clients as saturate the server.
    #[arg(long)]
    overload: bool,
    /// Instead measures a fast model alone, and among N loaded copies of it.
    #[arg(long, value_name = "N")]
    models: Option<usize>,
    /// Instead measures the cost of records, tokens, traces and a memory limit for a fast model.
    #[arg(long)]
    features: bool,
    /// Instead measures memory while a fast model answers N million requests.
    #[arg(long, value_name = "MILLIONS")]
    soak: Option<f64>,
    /// A `slipway-serving` program to measure instead of the optimized build of this checkout.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// One load.
struct Scenario {
    model: &'static str,
    protocol: Protocol,
    clients: u32,
}

const fn scenario(model: &'static str, protocol: Protocol, clients: u32) -> Scenario {
    Scenario { model, protocol, clients }
}

const SCENARIOS: [Scenario; 7] = [
    scenario("perceptron", Protocol::Rest, 1),
    scenario("perceptron", Protocol::Rest, MANY),
    scenario("perceptron", Protocol::Grpc, MANY),
    scenario("trees", Protocol::Rest, MANY),
    scenario("trees", Protocol::Grpc, MANY),
    scenario("encoder", Protocol::Rest, MANY),
    scenario("encoder", Protocol::Grpc, MANY),
];

impl Scenario {
    fn name(&self) -> String {
        format!("{}, {}, {}", self.model, self.protocol.name(), self.clients)
    }
}

pub(super) fn measure(options: &Options) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for tool in ["wrk", "h2load"] {
        ensure!(
            Command::new(tool).arg("--version").output().is_ok(),
            "`{tool}` is not installed; on Debian: apt-get install wrk nghttp2-client"
        );
    }
    build::toolbox()?;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => build::release("slipway-serving")?,
    };
    let folder = root().join(".slipway/bench-serving");
    super::clear(&folder)?;
    let python = venv::ensure_bench()?;
    step("make the models and the bodies of requests", || {
        build::run(Command::new(&python).arg(root().join("xtask/src/bench/serving/prepare.py")).arg(&folder))
    })?;
    if let Some(count) = options.models {
        return many::measure(&program, &folder, count, MANY, options.seconds);
    }
    if options.features {
        return features::measure(&program, &folder, MANY, options.seconds);
    }
    if let Some(millions) = options.soak {
        return soak::measure(&program, &folder, millions, MANY, options.seconds);
    }
    compare(options, &program, &python, &folder)
}

/// Measures our server and, where it is installed, another one under the same load.
fn compare(options: &Options, program: &Path, python: &Path, folder: &Path) -> anyhow::Result<()> {
    let alone = references(python, folder, options.seconds)?;
    let server = Server::start(program, folder, &Setup::default())?;
    let ours = figures(&server, folder, options)?;
    let loaded = server.memory_bytes()? / BYTES_PER_MIB;
    // An idle model gives back what a burst took.
    std::thread::sleep(IDLE);
    let idle = server.memory_bytes()? / BYTES_PER_MIB;
    if options.overload {
        overload(&server, folder, options.seconds)?;
    }
    drop(server);
    let theirs = match Peer::start(folder)? {
        Some(peer) => Some(figures(&peer.server, folder, options)?),
        None => None,
    };
    show(&ours, theirs.as_deref());
    println!("\n| | |\n|---|---|");
    for (version, rows) in alone {
        println!(
            "| encoder by ONNX Runtime {version} alone (two callers, one session, batches of 32) | {rows:.0} \
             rows/s |"
        );
    }
    let first_mib = starts::measure(program, folder)? / BYTES_PER_MIB;
    println!(
        "| memory (PSS) with four small models: first answer, after the load, {} s later \
         | {first_mib:.0} MiB, {loaded:.0} MiB, {idle:.0} MiB |",
        IDLE.as_secs(),
    );
    Ok(())
}

/// Rows a second of ONNX Runtime without a server: of the version that serving has, where this Python can
/// load it, and of the environment's.
fn references(python: &Path, folder: &Path, seconds: u32) -> anyhow::Result<Vec<(String, f64)>> {
    let library = Toolbox::from_env()?.onnxruntime_library(&mut |_: &str| {})?;
    // The library lies in `onnxruntime/capi` of the folder that its wheel was unpacked to.
    let wheel = library.ancestors().nth(3).context("the folder of ONNX Runtime")?.to_owned();
    let served = reference(python, folder, seconds, Some(&wheel)).inspect_err(|error| {
        eprintln!("==> the ONNX Runtime of serving is not measured alone: {error:#}");
    });
    Ok(served.into_iter().chain([reference(python, folder, seconds, None)?]).collect())
}

fn reference(
    python: &Path,
    folder: &Path,
    seconds: u32,
    packages: Option<&Path>,
) -> anyhow::Result<(String, f64)> {
    let output = Command::new(python)
        .arg(root().join("xtask/src/bench/serving/reference.py"))
        .arg(folder.join("models/encoder.onnx"))
        .arg(seconds.to_string())
        .envs(packages.map(|folder| ("PYTHONPATH", folder)))
        .output()
        .context("cannot start Python")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let measured =
        text.trim().split_once(' ').and_then(|(version, rows)| Some((version, rows.parse().ok()?)));
    let (version, rows) = measured
        .with_context(|| format!("reference.py: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((version.to_owned(), rows))
}

fn figures(server: &Server, folder: &Path, options: &Options) -> anyhow::Result<Vec<(String, Figure)>> {
    let wanted =
        |scenario: &&Scenario| options.only.as_ref().is_none_or(|only| scenario.name().contains(only));
    let mut figures = Vec::new();
    for scenario in SCENARIOS.iter().filter(wanted) {
        let name = scenario.name();
        eprintln!("==> {}: {name}", server.name);
        let run =
            |seconds| load::run(server, folder, scenario.model, scenario.protocol, scenario.clients, seconds);
        run(1)?;
        figures.push((name, run(options.seconds)?));
    }
    Ok(figures)
}

/// What is answered when far more is asked than can be: the answers that were useful, each second.
fn overload(server: &Server, folder: &Path, seconds: u32) -> anyhow::Result<()> {
    const TIMES: u32 = 10;
    println!("\n| encoder, REST | answered/s | refused/s | p99 ms |\n|---|---|---|---|");
    for clients in [MANY, MANY * TIMES, MANY * TIMES * 4] {
        let figure = load::run(server, folder, "encoder", Protocol::Rest, clients, seconds)?;
        println!(
            "| {clients} clients | {:.0} | {:.0} | {:.1} |",
            figure.per_second, figure.refused_per_second, figure.p99_ms
        );
    }
    Ok(())
}

fn show(ours: &[(String, Figure)], theirs: Option<&[(String, Figure)]>) {
    println!(
        "\n| load (model, protocol, clients) | requests/s | p50 ms | p99 ms | server CPU µs/request \
         |\n|---|---|---|---|---|"
    );
    for (place, (name, figure)) in ours.iter().enumerate() {
        line(name, figure);
        if let Some((_, peer)) = theirs.and_then(|theirs| theirs.get(place)) {
            line("— Triton", peer);
            println!(
                "| — ratio | {:.2}× | {:.2}× | {:.2}× | {:.2}× |",
                figure.per_second / peer.per_second,
                figure.p50_ms / peer.p50_ms,
                figure.p99_ms / peer.p99_ms,
                figure.cpu_us / peer.cpu_us
            );
        }
    }
}

fn line(name: &str, figure: &Figure) {
    println!(
        "| {name} | {:.0} | {:.2} | {:.2} | {:.1} |",
        figure.per_second, figure.p50_ms, figure.p99_ms, figure.cpu_us
    );
    if figure.refused_per_second > 0.0 {
        println!("| — not answered | {:.0} | | | |", figure.refused_per_second);
    }
}
