//! What each feature costs: servers that differ by it, under the same load by turns.

use std::path::Path;

use super::load::{self, Figure, Protocol};
use super::many::copy_bodies;
use super::server::{Server, Setup};
use super::turns::{by_turns, median};

/// The quickest of the models, of whose time the features take the largest share.
const MODEL: &str = "perceptron";
const ROUNDS: usize = 9;
/// The token in `tokens.json`, which `prepare.py` writes.
const TOKEN: &str = "bench-token";
/// There is no listener: spans are made and batched, and dropped at the end.
const NO_COLLECTOR: &str = "http://127.0.0.1:1";
const NO_RECORDS: &str = r#"{"records": {"sample_percent": 0}}"#;

/// What is switched on.
struct Features {
    name: &'static str,
    records: bool,
    tokens: bool,
    environment: Vec<(&'static str, String)>,
}

fn features() -> [Features; 7] {
    let none = || Features { name: "everything off", records: false, tokens: false, environment: Vec::new() };
    let traces =
        [("SLIPWAY_OTLP_ENDPOINT", NO_COLLECTOR.to_owned()), ("SLIPWAY_TRACE_RATE", "100".to_owned())];
    let events = [("SLIPWAY_SERVING_CLOUDEVENTS_SUBJECT", "bench.events".to_owned())];
    let limit = [("SLIPWAY_SERVING_MEMORY_LIMIT_BYTES", (1_u64 << 30).to_string())];
    [
        none(),
        Features { name: "records of every request", records: true, ..none() },
        Features { name: "tokens", tokens: true, ..none() },
        Features { name: "traces of 1 in 100", environment: traces.to_vec(), ..none() },
        Features { name: "a memory limit", environment: limit.to_vec(), ..none() },
        Features {
            name: "all of these",
            records: true,
            tokens: true,
            environment: traces.into_iter().chain(limit).collect(),
        },
        Features {
            name: "records and CloudEvents of every request",
            records: true,
            environment: events.to_vec(),
            ..none()
        },
    ]
}

/// Starts a server for each set of features, and puts the same loads on all of them by turns.
pub(super) fn measure(program: &Path, folder: &Path, clients: u32, seconds: u32) -> anyhow::Result<()> {
    let features = features();
    let servers = features.iter().enumerate().map(|(at, features)| start(program, folder, at, features));
    let servers = servers.collect::<anyhow::Result<Vec<Server>>>()?;
    let names = features.each_ref().map(|features| features.name);
    for protocol in [Protocol::Rest, Protocol::Grpc] {
        let figures = by_turns(&names, ROUNDS, |at| {
            load::run(&servers[at], folder, MODEL, protocol, clients, seconds)
        })?;
        let off = least_cpu_us(&figures[0]);
        println!(
            "\n| {MODEL}, {}, {clients} clients, medians of {ROUNDS} | requests/s | p99 ms | least server \
             CPU µs/request | more than off |\n|---|---|---|---|---|",
            protocol.name()
        );
        for (name, figures) in names.iter().zip(&figures) {
            let cpu_us = least_cpu_us(figures);
            println!(
                "| {name} | {:.0} | {:.2} | {cpu_us:.1} | {:.0} % |",
                median(figures, |figure| figure.per_second),
                median(figures, |figure| figure.p99_ms),
                (cpu_us / off - 1.0) * 100.0
            );
        }
    }
    Ok(())
}

/// The least disturbed of the loads: what else the machine does, and whom it shares its caches with, only
/// ever adds to it.
fn least_cpu_us(figures: &[Figure]) -> f64 {
    figures.iter().map(|figure| figure.cpu_us).fold(f64::INFINITY, f64::min)
}

fn start(program: &Path, folder: &Path, at: usize, features: &Features) -> anyhow::Result<Server> {
    let work = folder.join(format!("features-{at}"));
    let models = work.join("models");
    let version = models.join(MODEL).join("1");
    std::fs::create_dir_all(&version)?;
    std::fs::copy(folder.join(format!("models/{MODEL}.onnx")), version.join("model.onnx"))?;
    if !features.records {
        std::fs::write(version.join("slipway-serving.json"), NO_RECORDS)?;
    }
    copy_bodies(folder, &work, MODEL)?;
    let mut setup = Setup { models: Some(models), environment: features.environment.clone(), token: None };
    if features.tokens {
        let file = folder.join("tokens.json").display().to_string();
        setup.environment.push(("SLIPWAY_SERVING_TOKENS_FILE", file));
        setup.token = Some(TOKEN);
    }
    Server::start(program, &work, &setup)
}
