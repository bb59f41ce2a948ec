//! `slipway status`: which parts are ready.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Endpoints;
use crate::cli::Connection;
use crate::output;

const PROBE_TIMEOUT_MS: u64 = 2_000;

/// Begins the state of a part that runs and is not ready for all that it serves.
const DEGRADED: &str = "degraded: ";

/// One part as it answers now.
pub(crate) struct PartStatus {
    pub(crate) part: &'static str,
    pub(crate) address: String,
    pub(crate) state: String,
}

impl PartStatus {
    /// Whether it runs, and some of what it serves does not answer.
    pub(crate) fn is_degraded(&self) -> bool {
        self.state.starts_with(DEGRADED)
    }
}

pub(crate) fn run(connection: &Connection) -> anyhow::Result<ExitCode> {
    let endpoints = Endpoints::read(&connection.data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let parts = runtime.block_on(probe_all(&endpoints));
    let ready = parts.iter().all(|part| part.state == "ready");
    if connection.json {
        let listed: Vec<Value> = parts
            .iter()
            .map(|part| {
                json!({
                    "part": part.part, "address": super::without_password(&part.address), "state": part.state,
                    "pid": endpoints.pids.get(process_of(part.part)),
                })
            })
            .collect();
        output::json(&json!({"ready": ready, "parts": listed}));
    } else {
        let rows: Vec<Vec<String>> = parts
            .iter()
            .map(|part| {
                let pid = endpoints.pids.get(process_of(part.part)).map(u32::to_string).unwrap_or_default();
                vec![part.part.to_owned(), part.state.clone(), pid, super::without_password(&part.address)]
            })
            .collect();
        output::table(&["PART", "STATE", "PID", "ADDRESS"], &rows);
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The process that a part lives in: serving has three addresses.
pub(crate) fn process_of(part: &str) -> &str {
    if part.starts_with("serving") { "serving" } else { part }
}

/// Asks every part at once.
pub(crate) async fn probe_all(endpoints: &Endpoints) -> Vec<PartStatus> {
    slipway_service_kit::lifecycle::install_tls_provider();
    let http = reqwest::Client::builder()
        .timeout(Duration::from_millis(PROBE_TIMEOUT_MS))
        .build()
        .unwrap_or_default();
    let probes = endpoints.named().map(|(part, address)| {
        let http = http.clone();
        let address = address.to_owned();
        async move {
            let state = match part {
                "nats" | "s3" | "postgres" | "serving_grpc" => probe_port(&address).await,
                "serving_metrics" => probe_ready(&http, &format!("{address}/metrics")).await,
                _ => probe_ready(&http, &format!("{address}/readyz")).await,
            };
            PartStatus { part, address, state }
        }
    });
    futures::future::join_all(probes).await
}

async fn probe_ready(http: &reqwest::Client, url: &str) -> String {
    match http.get(url).send().await {
        Ok(response) if response.status().is_success() => "ready".to_owned(),
        Ok(response) => {
            let body: Value = response.json().await.unwrap_or(Value::Null);
            let missing = body["waiting_for"].as_object();
            // The process runs, and only some of what it serves does not answer.
            match missing
                .filter(|missing| missing.len() == 1)
                .and_then(|missing| missing.get("failed-models"))
            {
                Some(failed) => format!("{DEGRADED}{}", failed.as_str().unwrap_or_default()),
                None => format!("waiting: {}", output::cell(&body, "waiting_for")),
            }
        }
        Err(_) => "does not answer".to_owned(),
    }
}

/// Host and port of a URL.
fn authority(address: &str) -> &str {
    let host = address.split("://").last().unwrap_or(address);
    let host = host.split(['/', '?']).next().unwrap_or(host);
    // What stands before the host are user and password.
    host.rsplit('@').next().unwrap_or(host)
}

/// Port of a URL that names one.
pub(crate) fn port_of(address: &str) -> Option<u16> {
    authority(address).rsplit(':').next()?.parse().ok()
}

async fn probe_port(address: &str) -> String {
    let connect = tokio::net::TcpStream::connect(authority(address).to_owned());
    match tokio::time::timeout(Duration::from_millis(PROBE_TIMEOUT_MS), connect).await {
        Ok(Ok(_)) => "ready".to_owned(),
        _ => "does not answer".to_owned(),
    }
}
