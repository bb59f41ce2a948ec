//! A closed loop of clients against one tracking server, and what each operation of it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::Value;

use crate::bench::cpu;

const TIMEOUT: Duration = Duration::from_secs(120);

/// A tracking server under load.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) url: String,
    pub(super) pid: u32,
    pub(super) database_pid: u32,
    pub(super) http: reqwest::Client,
}

/// One request to be sent.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Behind `/api/2.0/mlflow/`.
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

impl Call {
    pub(super) fn post(path: &str, body: Value) -> Self {
        Self { method: Method::POST, path: path.to_owned(), body: Some(body) }
    }

    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: None }
    }
}

/// What an operation took.
#[derive(Debug, Clone, Default)]
pub(super) struct Figure {
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Processor time of server and database for each operation.
    pub(super) cpu_ms: f64,
    /// The database's part of it.
    pub(super) database_cpu_ms: f64,
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
}

impl Server {
    /// Of the server and of its database.
    fn cpu_seconds(&self) -> anyhow::Result<(f64, f64)> {
        Ok((cpu::usage(&[self.pid])?.cpu_seconds, cpu::usage(&[self.database_pid])?.cpu_seconds))
    }

    /// Sends a call and reads the answer.
    pub(super) async fn send(&self, call: &Call) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.exchange(call).await?).unwrap_or_default())
    }

    async fn exchange(&self, call: &Call) -> anyhow::Result<bytes::Bytes> {
        let url = format!("{}/api/2.0/mlflow/{}", self.url, call.path);
        let mut request = self.http.request(call.method.clone(), url).timeout(TIMEOUT);
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| call.path.clone())?;
        let (status, bytes) = (response.status(), response.bytes().await?);
        ensure!(status.is_success(), "{}: {status}: {}", call.path, String::from_utf8_lossy(&bytes));
        Ok(bytes)
    }

    /// `clients` send calls, each as soon as the last one was answered, for `seconds`. `calls` makes the
    /// calls of one operation from the number of the client and of the operation.
    pub(super) async fn load<C>(&self, clients: u64, seconds: f64, calls: C) -> anyhow::Result<Figure>
    where
        C: Fn(u64, u64) -> Vec<Call> + Send + Sync + 'static,
    {
        let (calls, next) = (Arc::new(calls), Arc::new(AtomicU64::new(0)));
        let before = self.cpu_seconds()?;
        let started = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|client| {
                let (server, calls, next) = (self.clone(), Arc::clone(&calls), Arc::clone(&next));
                tokio::spawn(async move {
                    let (mut micros, mut failures) = (Vec::new(), Vec::new());
                    while started.elapsed().as_secs_f64() < seconds {
                        let operation = calls(client, next.fetch_add(1, Ordering::Relaxed));
                        let began = Instant::now();
                        let mut outcome = Ok(());
                        for call in &operation {
                            outcome = outcome.and(server.exchange(call).await.map(drop));
                        }
                        match outcome {
                            Ok(()) => micros.push(began.elapsed().as_micros() as u64),
                            Err(error) => failures.push(format!("{error:#}")),
                        }
                    }
                    (micros, failures)
                })
            })
            .collect();
        let (mut micros, mut failures) = (Vec::new(), Vec::new());
        for task in tasks {
            let (ours, failed) = task.await?;
            micros.extend(ours);
            failures.extend(failed);
        }
        let elapsed = started.elapsed().as_secs_f64();
        let after = self.cpu_seconds()?;
        micros.sort_unstable();
        let at = |share: f64| {
            let place = ((micros.len() as f64 - 1.0).max(0.0) * share) as usize;
            micros.get(place).copied().unwrap_or_default() as f64 / 1e3
        };
        let per_operation = |cpu_seconds: f64| cpu_seconds * 1e3 / micros.len().max(1) as f64;
        Ok(Figure {
            per_second: micros.len() as f64 / elapsed,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            cpu_ms: per_operation(after.0 - before.0 + after.1 - before.1),
            database_cpu_ms: per_operation(after.1 - before.1),
            failed: failures.len() as u64,
            first_failure: failures.into_iter().next(),
        })
    }
}
