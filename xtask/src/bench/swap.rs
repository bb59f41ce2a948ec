//! How fast a promotion and a rollback reach the clients, under a closed loop of requests, and what fails
//! meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::platform::Platform;
use crate::endpoints::Endpoints;

const MODEL: &str = "swap";
const TIMEOUT: Duration = Duration::from_secs(20);
const POLL_MS: u64 = 5;
/// Requests go on for so long after a decision, so that late answers are seen.
const AFTER_MS: u64 = 300;

/// One answer.
#[derive(Debug, Clone)]
struct Answer {
    at_unix_ms: u64,
    micros: u64,
    version: String,
}

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    answers: Mutex<Vec<Answer>>,
    failures: Mutex<Vec<String>>,
}

pub(super) fn measure(rounds: u32, clients: u32, release: bool) -> anyhow::Result<()> {
    super::on_a_platform(release, async |data_dir| rounds_of(data_dir, rounds, clients).await)
}

async fn rounds_of(data_dir: &Path, rounds: u32, clients: u32) -> anyhow::Result<()> {
    let platform = Platform::new(Endpoints::read(data_dir)?, MODEL, TIMEOUT);
    for fixture in ["right-1.onnx", "right-2.onnx"] {
        platform.register(fixture).await?;
    }
    let body = json!({"name": MODEL, "model": MODEL, "version": "1"});
    platform.send("rollout_controller", "POST", "/api/v1/deployments", &body).await?;
    platform.wait_for("promoted").await?;
    let seen = Arc::new(Seen::default());
    let tasks: Vec<_> =
        (0..clients).map(|_| tokio::spawn(client(platform.clone(), Arc::clone(&seen)))).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut promotions, mut rollbacks) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        let body = json!({"version": "2", "strategy": {"steps": []}});
        platform
            .send("rollout_controller", "POST", &format!("/api/v1/deployments/{MODEL}/rollouts"), &body)
            .await?;
        let decided = platform.wait_for("promoted").await?["promotion_decided_at_unix_ms"]
            .as_u64()
            .context("no time")?;
        tokio::time::sleep(Duration::from_millis(AFTER_MS)).await;
        let first =
            seen.answers().into_iter().filter(|answer| answer.version == "2" && answer.at_unix_ms >= decided);
        let first = first.map(|answer| answer.at_unix_ms).min().context("version 2 never answered")?;
        promotions.push(first - decided);
        platform
            .send("rollout_controller", "POST", &format!("/api/v1/deployments/{MODEL}/rollback"), &json!({}))
            .await?;
        let decided = platform.wait_for("rolled_back").await?["rollback_decided_at_unix_ms"]
            .as_u64()
            .context("no time")?;
        tokio::time::sleep(Duration::from_millis(AFTER_MS)).await;
        let last = seen
            .answers()
            .into_iter()
            .filter(|answer| answer.version == "2")
            .map(|answer| answer.at_unix_ms)
            .max();
        rollbacks.push(last.unwrap_or_default().saturating_sub(decided));
    }
    seen.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await?;
    }
    report(&seen, &mut promotions, &mut rollbacks)
}

fn report(seen: &Seen, promotions: &mut [u64], rollbacks: &mut [u64]) -> anyhow::Result<()> {
    let mut micros: Vec<u64> = seen.answers().iter().map(|answer| answer.micros).collect();
    let failures = seen.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let at = |sorted: &mut [u64], share: f64| {
        sorted.sort_unstable();
        sorted.get(((sorted.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default()
    };
    println!();
    for (what, values) in [
        ("promotion decided → first answer by the new version", promotions),
        ("rollback decided → last answer by the bad version", rollbacks),
    ] {
        println!(
            "{what:<52} median {} ms, worst {} ms of {}",
            at(values, 0.5),
            at(values, 1.0),
            values.len()
        );
    }
    let (p50, p99) = (at(&mut micros, 0.5), at(&mut micros, 0.99));
    println!("{:<52} {} answered, {} failed", "requests", micros.len(), failures.len());
    println!(
        "{:<52} p50 {:.2} ms, p99 {:.2} ms",
        "latency at the client",
        p50 as f64 / 1e3,
        p99 as f64 / 1e3
    );
    match failures.first() {
        Some(first) => bail!("{} requests failed, the first: {first}", failures.len()),
        None => Ok(()),
    }
}

/// Asks again as soon as it is answered.
async fn client(platform: Platform, seen: Arc<Seen>) {
    let body =
        json!({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 0.0]}]});
    while !seen.stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answered =
            platform.send("serving_http", "POST", &format!("/v2/models/{MODEL}/infer"), &body).await;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        match answered {
            Ok(answer) => {
                let version = answer["model_version"].as_str().unwrap_or_default().to_owned();
                let answer = Answer { at_unix_ms: now_unix_ms(), micros, version };
                seen.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            }
            Err(error) => {
                seen.failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
            }
        }
    }
}

impl Seen {
    fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Platform {
    /// The newest rollout, once it is in that phase.
    async fn wait_for(&self, phase: &str) -> anyhow::Result<Value> {
        let started = Instant::now();
        while started.elapsed() < TIMEOUT {
            let path = format!("/api/v1/rollouts?deployment={MODEL}&limit=1");
            let answer = self.send("rollout_controller", "GET", &path, &Value::Null).await?;
            if answer["rollouts"][0]["phase"] == phase {
                return Ok(answer["rollouts"][0].clone());
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
        bail!("the rollout was not {phase} within {} s", TIMEOUT.as_secs())
    }
}
