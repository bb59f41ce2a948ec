//! Millions of metric points in one experiment: how fast they come in, and how long the history of one key
//! takes to read.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::load::{Call, Server};

/// MLflow's limit of one batch.
const POINTS_OF_BATCH: u64 = 1_000;
const KEYS: u64 = 10;
/// What the client asks for when it reads a whole history.
const HISTORY_PAGE: u64 = 25_000;
/// What a chart asks for.
const SAMPLES: u64 = 2_500;

/// How to measure many points.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Number of points in the experiment.
    #[arg(long, default_value_t = 10_000_000, value_name = "N")]
    points: u64,
    /// Number of clients, each of which logs to its own run.
    #[arg(long, default_value_t = 8, value_name = "N")]
    clients: u64,
}

pub(in crate::bench) fn measure(options: &Options) -> anyhow::Result<()> {
    crate::bench::on_a_platform(true, async |data_dir| run(options, data_dir).await)
}

async fn run(options: &Options, data_dir: &Path) -> anyhow::Result<()> {
    let server = super::ours(data_dir)?.0;
    let experiment =
        super::made(&server, "experiments/create", &json!({"name": "points"}), "/experiment_id").await?;
    let mut runs = Vec::new();
    for number in 0..options.clients.max(1) {
        let run = server.send(&super::create_run(&experiment, number)).await?;
        runs.push(run.pointer("/run/info/run_id").and_then(Value::as_str).context("no run id")?.to_owned());
    }
    let runs = Arc::new(runs);
    let batches = (options.points / POINTS_OF_BATCH).div_ceil(runs.len() as u64);
    let started = Instant::now();
    let tasks: Vec<_> = (0..runs.len())
        .map(|client| {
            let (server, runs) = (server.clone(), Arc::clone(&runs));
            tokio::spawn(async move {
                for number in 0..batches {
                    server.send(&batch(&runs[client], number)).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let points = batches * POINTS_OF_BATCH * runs.len() as u64;
    println!("\n{points} points logged in {seconds:.0} s, {:.0} points/s", points as f64 / seconds);

    let of_key = batches * POINTS_OF_BATCH / KEYS;
    let run = runs.first().context("no run")?;
    let started = Instant::now();
    let (read, pages, slowest_ms) = history(&server, run).await?;
    anyhow::ensure!(read == of_key, "{read} points of {of_key} came back");
    println!(
        "history of one key, {read} points in order: {:.2} s in {pages} pages, the slowest {slowest_ms:.0} \
         ms",
        started.elapsed().as_secs_f64()
    );
    let sampled =
        format!("metrics/get-history-bulk-interval?run_ids={run}&metric_key=metric-0&max_results={SAMPLES}");
    let started = Instant::now();
    let answer = server.send(&Call::get(sampled)).await?;
    let samples = answer["metrics"].as_array().map_or(0, Vec::len);
    println!("the same for a chart, {samples} samples: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// Points read, pages, and the slowest page in milliseconds; each point has to be later than the one before.
async fn history(server: &Server, run: &str) -> anyhow::Result<(u64, u64, f64)> {
    let (mut read, mut pages, mut slowest_ms, mut last) = (0, 0, 0_f64, -1);
    let mut token = String::new();
    loop {
        let path = format!(
            "metrics/get-history?run_id={run}&metric_key=metric-0&max_results={HISTORY_PAGE}&page_token={token}"
        );
        let started = Instant::now();
        let page = server.send(&Call::get(path)).await?;
        slowest_ms = slowest_ms.max(started.elapsed().as_secs_f64() * 1e3);
        pages += 1;
        for point in page["metrics"].as_array().into_iter().flatten() {
            let step = point["step"].as_i64().context("a point without a step")?;
            anyhow::ensure!(step > last, "step {step} came after {last}");
            (read, last) = (read + 1, step);
        }
        match page["next_page_token"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => return Ok((read, pages, slowest_ms)),
        }
    }
}

fn batch(run: &str, number: u64) -> Call {
    let steps = POINTS_OF_BATCH / KEYS;
    let point = |place: u64| {
        let step = number * steps + place / KEYS;
        json!({"key": format!("metric-{}", place % KEYS), "value": 1.0 / (step + 1) as f64,
            "timestamp": 1_700_000_000_000_u64 + step, "step": step})
    };
    let metrics: Vec<Value> = (0..POINTS_OF_BATCH).map(point).collect();
    Call::post("runs/log-batch", json!({"run_id": run, "metrics": metrics}))
}
