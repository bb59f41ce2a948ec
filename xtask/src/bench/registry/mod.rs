//! The tracking server under load, next to an `mlflow server` on the same Postgres where that is asked for.

mod load;
mod peer;
pub(super) mod points;
mod seed;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use self::load::{Call, Figure, Server};
use super::cpu;
use crate::endpoints::Endpoints;
use crate::progress::step;

/// Keys of the run that is read whole.
const METRICS_OF_LARGE_RUN: usize = 1_000;
const METRICS_OF_BATCH: usize = 100;
/// Runs of a page that is searched for: what a table shows, and what MLflow's client asks for by default.
const PAGES: [usize; 2] = [100, 1_000];

/// How to measure the registry.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Number of closed-loop clients.
    #[arg(long, default_value_t = 32, value_name = "N")]
    clients: u64,
    /// Duration per operation.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    seconds: f64,
    /// Number of runs in the searched experiment.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    runs: u64,
    /// Measures an `mlflow server` on the same Postgres as well, and prints the ratios.
    #[arg(long)]
    peer: bool,
    /// Workers of the `mlflow server`.
    #[arg(long, default_value_t = 4, value_name = "N")]
    peer_workers: u32,
}

type Figures = Vec<(String, Figure)>;

pub(super) fn measure(options: &Options) -> anyhow::Result<()> {
    super::on_a_platform(true, async |data_dir| both(options, data_dir).await)
}

/// Our registry as it runs on that data directory, and the address of its Postgres.
fn ours(data_dir: &Path) -> anyhow::Result<(Server, String)> {
    let endpoints = Endpoints::read(data_dir)?;
    let server = Server {
        name: "slipway",
        url: endpoints.url("registry")?.to_owned(),
        pid: endpoints.pid("registry")?,
        database_pid: endpoints.pid("postgres")?,
        http: reqwest::Client::new(),
    };
    Ok((server, endpoints.url("postgres")?.to_owned()))
}

async fn both(options: &Options, data_dir: &Path) -> anyhow::Result<()> {
    let (ours, database) = ours(data_dir)?;
    let (registry, postgres, database) = (ours.pid, ours.database_pid, database.as_str());
    let idle = vec![(ours.name, cpu::usage(&[registry])?)];
    let figures = scenarios(&ours, options, Some(database)).await?;
    crowd(&ours).await?;
    if !options.peer {
        show(&figures, None, &idle);
        return Ok(());
    }
    let peer = peer::start(database, data_dir, options.peer_workers).await?;
    let server = Server {
        name: "mlflow server",
        url: peer.url.clone(),
        pid: peer.pid(),
        database_pid: postgres,
        http: reqwest::Client::new(),
    };
    let idle = [idle, vec![(server.name, cpu::usage(&[peer.pid()])?)]].concat();
    let others = scenarios(&server, options, None).await?;
    drop(peer);
    show(&figures, Some(&others), &idle);
    Ok(())
}

async fn scenarios(server: &Server, options: &Options, database: Option<&str>) -> anyhow::Result<Figures> {
    let (clients, seconds) = (options.clients, options.seconds);
    let mut figures = Figures::new();
    let name = server.name;
    let experiment = made(server, "experiments/create", &json!({"name": "bench"}), "/experiment_id").await?;
    let creating = experiment.clone();
    let create = move |_, number| vec![create_run(&creating, number)];
    eprintln!("==> {name}: runs/create");
    figures.push(("runs/create".to_owned(), server.load(clients, seconds, create).await?));

    let mut runs = Vec::new();
    for number in 0..clients {
        let call = create_run(&experiment, number);
        let run = server.send(&call).await?;
        runs.push(run.pointer("/run/info/run_id").and_then(Value::as_str).context("no run id")?.to_owned());
    }
    let runs = Arc::new(runs);
    eprintln!("==> {name}: log-metric, log-batch");
    for (what, clients) in [("log-metric", clients), ("log-metric, one client", 1)] {
        let runs = Arc::clone(&runs);
        let log = move |client: u64, number| vec![log_metric(&runs[client as usize], number)];
        figures.push((what.to_owned(), server.load(clients, seconds, log).await?));
    }
    let of_batches = Arc::clone(&runs);
    let log =
        move |client: u64, number| vec![log_batch(&of_batches[client as usize], number, METRICS_OF_BATCH)];
    figures
        .push((format!("log-batch, {METRICS_OF_BATCH} metrics"), server.load(clients, seconds, log).await?));

    let large = runs.first().context("no client")?.clone();
    server.send(&log_batch(&large, 0, METRICS_OF_LARGE_RUN)).await?;
    eprintln!("==> {name}: runs/get");
    let get = move |_, _| vec![Call::get(format!("runs/get?run_id={large}"))];
    figures.push((
        format!("runs/get, {METRICS_OF_LARGE_RUN} metrics"),
        server.load(clients, seconds, get).await?,
    ));

    let searched =
        made(server, "experiments/create", &json!({"name": "bench-search"}), "/experiment_id").await?;
    step(&format!("{name}: make {} runs to be searched", options.runs), || {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(seed::runs(server, database, &searched, options.runs))
        })
    })?;
    for page in PAGES {
        let body = json!({"experiment_ids": [searched], "filter": "metrics.score > 0.5", "max_results": page,
            "order_by": ["metrics.score DESC"]});
        let search = move |_, _| vec![Call::post("runs/search", body.clone())];
        let what = format!("runs/search, {page} of {}", options.runs);
        figures.push((what, server.load(clients, seconds, search).await?));
    }
    figures.push(("create version + set alias".to_owned(), versions(server, options).await?));
    Ok(figures)
}

async fn versions(server: &Server, options: &Options) -> anyhow::Result<Figure> {
    eprintln!("==> {}: create version + set alias", server.name);
    let numbers: Vec<AtomicU64> = (0..options.clients).map(|_| AtomicU64::new(1)).collect();
    for client in 0..options.clients {
        server
            .send(&Call::post("registered-models/create", json!({"name": format!("bench-{client}")})))
            .await?;
    }
    let calls = move |client: u64, _| {
        let (name, number) =
            (format!("bench-{client}"), numbers[client as usize].fetch_add(1, Ordering::Relaxed));
        let version = json!({"name": name, "source": "s3://bucket/model"});
        let alias = json!({"name": name, "alias": "champion", "version": number.to_string()});
        vec![Call::post("model-versions/create", version), Call::post("registered-models/alias", alias)]
    };
    server.load(options.clients, options.seconds, calls).await
}

/// A thousand clients at once: none may be refused.
async fn crowd(server: &Server) -> anyhow::Result<()> {
    const CLIENTS: u64 = 1_000;
    let run = server.send(&create_run("0", 0)).await?;
    let run = run.pointer("/run/info/run_id").and_then(Value::as_str).context("no run id")?.to_owned();
    let log = move |client, number| vec![log_batch(&run, client * 1_000_000 + number, METRICS_OF_BATCH)];
    let figure = server.load(CLIENTS, 5.0, log).await?;
    println!(
        "{}: log-batch from {CLIENTS} clients to one run: {:.0}/s, p99 {:.0} ms, {} failed{}",
        server.name,
        figure.per_second,
        figure.p99_ms,
        figure.failed,
        figure.first_failure.map(|first| format!(", the first: {first}")).unwrap_or_default()
    );
    Ok(())
}

async fn made(server: &Server, path: &str, body: &Value, pointer: &str) -> anyhow::Result<String> {
    let answer = server.send(&Call::post(path, body.clone())).await?;
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("{path}: {answer}"))
}

fn create_run(experiment: &str, number: u64) -> Call {
    let tags =
        json!([{"key": "mlflow.user", "value": "bench"}, {"key": "mlflow.source.name", "value": "train.py"}]);
    let body = json!({"experiment_id": experiment, "run_name": format!("run-{number}"),
        "start_time": 1_700_000_000_000_u64 + number,
        "tags": tags});
    Call::post("runs/create", body)
}

fn log_metric(run: &str, number: u64) -> Call {
    let value = 1.0 / (number + 1) as f64;
    let body = json!({"run_id": run, "key": "loss", "value": value, "timestamp": 1_700_000_000_000_u64
        + number, "step": number});
    Call::post("runs/log-metric", body)
}

fn log_batch(run: &str, step: u64, metrics: usize) -> Call {
    let metric = |key| {
        json!({"key": format!("metric-{key}"), "value": step as f64,
        "timestamp": 1_700_000_000_000_u64 + step, "step": step})
    };
    let metrics: Vec<Value> = (0..metrics).map(metric).collect();
    Call::post("runs/log-batch", json!({"run_id": run, "metrics": metrics}))
}

fn show(ours: &Figures, peer: Option<&Figures>, idle: &[(&str, cpu::Usage)]) {
    println!(
        "\n{:<28} {:>10} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "operation", "per s", "p50 ms", "p99 ms", "CPU ms", "database", "failed"
    );
    for (place, (operation, figure)) in ours.iter().enumerate() {
        line(operation, figure);
        if let Some((_, theirs)) = peer.and_then(|peer| peer.get(place)) {
            line("  mlflow server", theirs);
            println!(
                "{:<28} {:>9.1}x {:>8.1}x {:>8.1}x {:>8.1}x",
                "  ratio",
                figure.per_second / theirs.per_second,
                theirs.p50_ms / figure.p50_ms,
                theirs.p99_ms / figure.p99_ms,
                theirs.cpu_ms / figure.cpu_ms
            );
        }
    }
    for (name, usage) in idle {
        println!(
            "{name}: idle in {:.1} MiB, {} processes",
            usage.memory_bytes / super::BYTES_PER_MIB,
            usage.processes
        );
    }
}

fn line(operation: &str, figure: &Figure) {
    println!(
        "{operation:<28} {:>10.1} {:>9.2} {:>9.2} {:>9.3} {:>9.3} {:>7}",
        figure.per_second, figure.p50_ms, figure.p99_ms, figure.cpu_ms, figure.database_cpu_ms, figure.failed
    );
    if let Some(first) = &figure.first_failure {
        println!("    first failure: {first}");
    }
}
