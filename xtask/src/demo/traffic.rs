//! Live traffic: steady requests with ids, and labels that follow with a delay.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::measure::{Sample, now_unix_ms};

/// Labels arrive this long after their prediction.
const LABEL_DELAY_MS: u64 = 400;
/// Requests under way at once, at most.
const MAX_IN_FLIGHT: usize = 64;
const REQUEST_TIMEOUT_MS: u64 = 5_000;

/// What `prepare.py` wrote.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Inputs {
    pub(crate) rows: Vec<Vec<Option<f64>>>,
    pub(crate) labels: Vec<i64>,
    pub(crate) shifted_rows: Vec<Vec<Option<f64>>>,
    #[serde(skip)]
    pub(crate) recent_csv: std::path::PathBuf,
}

impl Inputs {
    /// Reads `traffic.json` of a folder.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("traffic.json");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut inputs: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not what was expected", path.display()))?;
        inputs.recent_csv = folder.join("recent.csv");
        anyhow::ensure!(!inputs.rows.is_empty() && inputs.rows.len() == inputs.labels.len(), "no live rows");
        anyhow::ensure!(inputs.shifted_rows.len() == inputs.rows.len(), "the shift lost rows");
        Ok(inputs)
    }
}

/// Traffic that runs until it is stopped.
#[derive(Debug)]
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    driver: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    serving: String,
    deployment: String,
    inputs: Inputs,
    shifted: AtomicBool,
    stop: AtomicBool,
    sent: AtomicU64,
    samples: Mutex<Vec<Sample>>,
    failures: Mutex<Vec<String>>,
}

impl Traffic {
    /// Starts `rate_per_s` requests a second to a deployment.
    pub(crate) fn start(
        serving: &str,
        deployment: &str,
        inputs: Inputs,
        rate_per_s: u32,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_millis(REQUEST_TIMEOUT_MS)).build()?;
        let shared = Arc::new(Shared {
            http,
            serving: serving.to_owned(),
            deployment: deployment.to_owned(),
            inputs,
            shifted: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            samples: Mutex::default(),
            failures: Mutex::default(),
        });
        let driver = tokio::spawn(drive(Arc::clone(&shared), rate_per_s));
        Ok(Self { shared, driver })
    }

    /// From now on the inputs are the shifted ones.
    pub(crate) fn shift(&self) {
        self.shared.shifted.store(true, Ordering::Relaxed);
    }

    /// Answers so far.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.shared.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the traffic, waits for what is under way. Answers with requests sent, answers, and what failed.
    pub(crate) async fn stop(mut self) -> (u64, Vec<Sample>, Vec<String>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = (&mut self.driver).await;
        let failures = self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.shared.sent.load(Ordering::Relaxed), self.samples(), failures)
    }
}

impl Shared {
    fn fail(&self, failure: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
    }
}

async fn drive(shared: Arc<Shared>, rate_per_s: u32) {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / f64::from(rate_per_s)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let permits = Arc::new(tokio::sync::Semaphore::new(MAX_IN_FLIGHT));
    let mut label_tasks = tokio::task::JoinSet::new();
    let mut labels = Vec::new();
    let mut labels_sent_at = Instant::now();
    let (done, mut answered) = tokio::sync::mpsc::unbounded_channel();
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
        let number = shared.sent.fetch_add(1, Ordering::Relaxed);
        let (task, done) = (Arc::clone(&shared), done.clone());
        tokio::spawn(async move {
            if let Some(label) = ask(&task, number).await {
                let _ = done.send(label);
            }
            drop(permit);
        });
        while let Ok(label) = answered.try_recv() {
            labels.push(label);
        }
        if labels_sent_at.elapsed() > Duration::from_millis(100) && !labels.is_empty() {
            labels_sent_at = Instant::now();
            label_tasks.spawn(send_labels(Arc::clone(&shared), std::mem::take(&mut labels)));
        }
    }
    let _ = permits.acquire_many(MAX_IN_FLIGHT as u32).await;
    label_tasks.join_all().await;
}

/// Sends one request; answers with its label line.
async fn ask(shared: &Shared, number: u64) -> Option<Value> {
    let row = usize::try_from(number).unwrap_or(0) % shared.inputs.rows.len();
    let shifted = shared.shifted.load(Ordering::Relaxed);
    let features = if shifted { &shared.inputs.shifted_rows[row] } else { &shared.inputs.rows[row] };
    let request_id = format!("demo-{number}");
    let url = format!("{}/v2/models/{}/infer", shared.serving, shared.deployment);
    let body = json!({"id": request_id, "inputs": [
        {"name": "input", "datatype": "FP32", "shape": [1, features.len()], "data": features}
    ]});
    let started = Instant::now();
    let answer = shared.http.post(url).json(&body).send().await;
    let latency = started.elapsed();
    let parsed = match answer {
        Ok(response) if response.status().is_success() => {
            response.json::<Value>().await.map_err(|e| e.to_string())
        }
        Ok(response) => Err(format!("{}: {}", response.status(), response.text().await.unwrap_or_default())),
        Err(error) => Err(error.to_string()),
    };
    match parsed {
        Ok(answer) => {
            let version = answer["model_version"].as_str().unwrap_or_default().to_owned();
            let prediction = answer["outputs"][0]["data"][0].as_i64();
            let label = shared.inputs.labels[row];
            let sample = Sample {
                at_unix_ms: now_unix_ms(),
                latency_us: u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
                version,
                correct: prediction == Some(label),
            };
            shared.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            Some(json!({"request_id": request_id, "label": label}))
        }
        Err(failure) => {
            shared.fail(format!("request {number}: {failure}"));
            None
        }
    }
}

async fn send_labels(shared: Arc<Shared>, labels: Vec<Value>) {
    tokio::time::sleep(Duration::from_millis(LABEL_DELAY_MS)).await;
    let url = format!("{}/v1/deployments/{}/labels", shared.serving, shared.deployment);
    let sent = shared.http.post(url).json(&json!({"labels": labels})).send().await;
    match sent {
        Ok(response) if response.status().is_success() => {}
        Ok(response) => shared.fail(format!("labels: {}", response.status())),
        Err(error) => shared.fail(format!("labels: {error}")),
    }
}
