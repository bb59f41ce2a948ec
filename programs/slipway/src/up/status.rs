//! `slipway status`: which parts are ready.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::connection::Connection;
use crate::endpoints::{Endpoints, without_password};
use crate::location::Location;
use crate::output;
use crate::services::Probe;

const PROBE_TIMEOUT_MS: u64 = 2_000;

/// Begins the state of a part that runs and is not ready for all that it serves.
const DEGRADED: &str = "degraded: ";

/// One part as it responds now.
pub(crate) struct PartStatus {
    pub(crate) part: &'static str,
    /// Name of its process in `endpoints.json`.
    pub(crate) process: String,
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (endpoints, parts) = runtime.block_on(async {
        let location = Location::find(connection).await?;
        let parts = probe_all(&location.endpoints).await;
        anyhow::Ok((location.endpoints, parts))
    })?;
    let ready = parts.iter().all(|part| part.state == "ready");
    if connection.json {
        let listed: Vec<Value> = parts
            .iter()
            .map(|part| {
                json!({
                    "part": part.part, "address": without_password(&part.address), "state": part.state,
                    "pid": endpoints.pids.get(&part.process),
                })
            })
            .collect();
        output::json(&json!({"ready": ready, "parts": listed}));
    } else {
        let rows: Vec<Vec<String>> = parts
            .iter()
            .map(|part| {
                let pid = endpoints.pids.get(&part.process).map(u32::to_string).unwrap_or_default();
                vec![part.part.to_owned(), part.state.clone(), pid, without_password(&part.address)]
            })
            .collect();
        output::table(&["PART", "STATE", "PID", "ADDRESS"], &rows);
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Probes all parts concurrently.
pub(crate) async fn probe_all(endpoints: &Endpoints) -> Vec<PartStatus> {
    slipway_runtime::install_tls_provider();
    let http = reqwest::Client::builder()
        .timeout(Duration::from_millis(PROBE_TIMEOUT_MS))
        .build()
        .unwrap_or_default();
    let probes = endpoints.all().into_iter().filter(|endpoint| !endpoint.url.is_empty()).map(|endpoint| {
        let http = http.clone();
        async move {
            let address = endpoint.url.to_owned();
            let state = match endpoint.probe {
                Probe::Connect => probe_port(&address).await,
                Probe::Get(path) => probe_ready(&http, &format!("{address}{path}")).await,
            };
            PartStatus { part: endpoint.part, process: endpoint.process, address, state }
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
