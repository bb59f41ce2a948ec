//! One load: wrk or h2load for some seconds, and what the server spent on it.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use super::server::Server;

/// h2load puts as many streams on one connection, as clients of gRPC do.
const STREAMS_OF_CONNECTION: u32 = 8;

/// How the requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Rest,
    Grpc,
}

impl Protocol {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rest => "REST",
            Self::Grpc => "gRPC",
        }
    }
}

/// What one load showed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figure {
    /// Answers with a prediction, in all.
    pub(super) answers: f64,
    /// The same each second.
    pub(super) per_second: f64,
    /// Other answers.
    pub(super) refused_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// The server's processor time for one answer with a prediction.
    pub(super) cpu_us: f64,
}

pub(super) fn run(
    server: &Server,
    folder: &Path,
    model: &str,
    protocol: Protocol,
    clients: u32,
    seconds: u32,
) -> anyhow::Result<Figure> {
    measured(server, &[model], seconds, || match protocol {
        Protocol::Rest => wrk(server, folder, model, "", clients, seconds),
        Protocol::Grpc => h2load(server, folder, model, clients, seconds),
    })
}

/// The same over REST, with the body of `model` sent to each of `models` in turn.
pub(super) fn spread(
    server: &Server,
    folder: &Path,
    model: &str,
    models: &[&str],
    clients: u32,
    seconds: u32,
) -> anyhow::Result<Figure> {
    // One model takes this way, too: the figures have to cost the client the same.
    let turns = format!(
        "local models, at = {{\"{}\"}}, 0\nrequest = function()\n  at = at % #models + 1\n  \
         return wrk.format(nil, \"/v2/models/\" .. models[at] .. \"/infer\")\nend\n",
        models.join("\", \"")
    );
    measured(server, models, seconds, || wrk(server, folder, model, &turns, clients, seconds))
}

fn measured(
    server: &Server,
    models: &[&str],
    seconds: u32,
    load: impl FnOnce() -> anyhow::Result<(f64, f64, f64)>,
) -> anyhow::Result<Figure> {
    let before = (server.cpu_seconds()?, predictions(server, models)?);
    let started = Instant::now();
    let (p50_ms, p99_ms, answers) = load()?;
    let elapsed = started.elapsed().as_secs_f64();
    let after = (server.cpu_seconds()?, predictions(server, models)?);
    let predicted = (after.1 - before.1) as f64;
    ensure!(predicted > 0.0, "{} answered nothing", models.join(", "));
    Ok(Figure {
        answers: predicted,
        // The tools take some time to start and to end; the seconds of the load are theirs.
        per_second: predicted / f64::from(seconds).max(elapsed - 1.0),
        refused_per_second: (answers - predicted).max(0.0) / f64::from(seconds),
        p50_ms,
        p99_ms,
        cpu_us: (after.0 - before.0) * 1e6 / predicted,
    })
}

/// Answers of some models so far, by the server's own statistics: an HTTP status says little about gRPC.
fn predictions(server: &Server, models: &[&str]) -> anyhow::Result<u64> {
    let url = format!("http://127.0.0.1:{}/v2/models/stats", server.rest);
    let request = reqwest::Client::new().get(url).bearer_auth(server.token.unwrap_or("none"));
    let fetched = tokio::runtime::Runtime::new()?
        .block_on(async { request.send().await?.error_for_status()?.json::<serde_json::Value>().await })?;
    let all = fetched["model_stats"].as_array().context("the statistics have no models")?;
    let named = all.iter().filter(|model| model["name"].as_str().is_some_and(|name| models.contains(&name)));
    let counts = named.map(|model| model["inference_stats"]["success"]["count"].as_u64());
    counts.sum::<Option<u64>>().context("the statistics have no count")
}

fn wrk(
    server: &Server,
    folder: &Path,
    model: &str,
    turns: &str,
    clients: u32,
    seconds: u32,
) -> anyhow::Result<(f64, f64, f64)> {
    let script = folder.join(format!("{model}.lua"));
    let body = std::fs::read_to_string(folder.join(format!("bodies/{model}.json")))?;
    let token = server
        .token
        .map_or_else(String::new, |token| format!("wrk.headers[\"authorization\"] = \"Bearer {token}\"\n"));
    std::fs::write(
        &script,
        format!(
            "{turns}wrk.method = \"POST\"\nwrk.headers[\"content-type\"] \
             = \"application/json\"\n{token}wrk.body = '{body}'\ndone = function(summary, latency)\n  \
             io.write(string.format(\"measured %f %f %d\\n\", latency:percentile(50), \
             latency:percentile(99), summary.requests))\nend\n"
        ),
    )?;
    let output = Command::new("wrk")
        .args(["-t", if clients == 1 { "1" } else { "2" }, "-c", &clients.to_string()])
        .args(["-d", &format!("{seconds}s"), "--timeout", "30s", "-s"])
        .arg(&script)
        .arg(format!("http://127.0.0.1:{}/v2/models/{model}/infer", server.rest))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let measured = text.lines().find_map(|line| line.strip_prefix("measured "));
    let values: Vec<f64> =
        measured.unwrap_or_default().split(' ').filter_map(|value| value.parse().ok()).collect();
    match values.as_slice() {
        [p50_us, p99_us, answers] => Ok((p50_us / 1e3, p99_us / 1e3, *answers)),
        _ => bail!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn h2load(
    server: &Server,
    folder: &Path,
    model: &str,
    clients: u32,
    seconds: u32,
) -> anyhow::Result<(f64, f64, f64)> {
    let log = folder.join("h2load.log");
    let _ = std::fs::remove_file(&log);
    let connections = (clients / STREAMS_OF_CONNECTION).max(1);
    let output = Command::new("h2load")
        .args(["-t", "1", "-c", &connections.to_string()])
        .args(["-m", &(clients / connections).to_string(), "-D", &seconds.to_string()])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .args(
            server.token.iter().flat_map(|token| ["-H".to_owned(), format!("authorization: Bearer {token}")]),
        )
        .arg("--log-file")
        .arg(&log)
        .arg("-d")
        .arg(folder.join(format!("bodies/{model}.grpc")))
        .arg(format!("http://127.0.0.1:{}/inference.GRPCInferenceService/ModelInfer", server.grpc))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A line for each answer: its start, its status, and how many microseconds it took.
    let lines = std::fs::read_to_string(&log).with_context(|| format!("h2load: {text}"))?;
    let mut micros: Vec<u64> =
        lines.lines().filter_map(|line| line.rsplit('\t').next()?.trim().parse().ok()).collect();
    let _ = std::fs::remove_file(&log);
    ensure!(!micros.is_empty(), "h2load: {text}{}", String::from_utf8_lossy(&output.stderr));
    micros.sort_unstable();
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    Ok((at(0.5), at(0.99), micros.len() as f64))
}
