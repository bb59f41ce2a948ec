//! A client of replicated services: it asks a ready replica, and another one if that one fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::chaos::board::{Board, now_ms};
use crate::chaos::faults::{Replica, Server, Service};
use crate::chaos::history::Failure;
use crate::chaos::journal::Shared;

/// Longer than Postgres lets a hanging replica hold a lock, and than a busy machine delays an answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(12);
/// An operation that no replica accepts for this long is a violation, without the time in which the machine
/// stood still or was overloaded.
const OPERATION_LIMIT_MS: u64 = 90_000;
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug, Clone)]
pub(in crate::chaos) struct Client {
    http: reqwest::Client,
    board: Arc<Board>,
    journal: Arc<Shared>,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicUsize>,
}

/// A request that any replica of a service can answer.
#[derive(Debug, Clone)]
pub(in crate::chaos) struct Request {
    pub(in crate::chaos) service: Service,
    pub(in crate::chaos) method: Method,
    pub(in crate::chaos) path: String,
    pub(in crate::chaos) body: Body,
    /// Servers without which no replica can answer.
    pub(in crate::chaos) needs: &'static [Server],
}

/// The body of a request.
#[derive(Debug, Clone)]
pub(in crate::chaos) enum Body {
    None,
    Json(Value),
    Bytes(Vec<u8>),
}

/// An answer that is not a failure of the replica: 2xx or 4xx.
#[derive(Debug, Clone)]
pub(in crate::chaos) struct Answer {
    pub(in crate::chaos) replica: Replica,
    pub(in crate::chaos) status: StatusCode,
    /// Null where it is no JSON.
    pub(in crate::chaos) body: Value,
    pub(in crate::chaos) bytes: Vec<u8>,
    /// Whether an earlier attempt may have been carried out.
    pub(in crate::chaos) retried: bool,
    pub(in crate::chaos) from_ms: u64,
    pub(in crate::chaos) to_ms: u64,
}

impl Request {
    pub(in crate::chaos) fn post(service: Service, path: impl Into<String>, body: Value) -> Self {
        let (method, body) = (Method::POST, Body::Json(body));
        Self { service, method, path: path.into(), body, needs: &[Server::Postgres] }
    }

    pub(in crate::chaos) fn get(service: Service, path: impl Into<String>) -> Self {
        let needs = &[Server::Postgres];
        Self { service, method: Method::GET, path: path.into(), body: Body::None, needs }
    }
}

impl Client {
    pub(in crate::chaos) fn new(
        board: Arc<Board>,
        journal: Arc<Shared>,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        // A connection for each request: a connection that is kept fails as well when its replica is killed,
        // but later.
        let http = reqwest::Client::builder().timeout(REQUEST_LIMIT).pool_max_idle_per_host(0).build()?;
        Ok(Self { http, board, journal, stop, next: Arc::default() })
    }

    pub(in crate::chaos) fn journal(&self) -> &Shared {
        &self.journal
    }

    pub(in crate::chaos) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Pauses between operations; `false` if the load stops.
    pub(in crate::chaos) async fn pause(&self, ms: u64) -> bool {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        !self.stopped()
    }

    /// Sends a request until a replica answers it. Failures and requests that no replica accepts are noted.
    pub(in crate::chaos) async fn send(&self, kind: &'static str, request: &Request) -> Option<Answer> {
        let (started_ms, mut retried) = (now_ms(), false);
        loop {
            let replica = self.board.pick(request.service, self.next.fetch_add(1, Ordering::Relaxed));
            let from_ms = now_ms();
            match self.once(replica, request).await {
                Ok((status, bytes)) => {
                    *self.journal.lock().answered.entry(kind).or_default() += 1;
                    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                    let to_ms = now_ms();
                    return Some(Answer { replica, status, body, bytes, retried, from_ms, to_ms });
                }
                Err(error) => {
                    let what = format!("{kind}: {} {}: {error}", request.method, request.path);
                    let failure = Failure {
                        replica,
                        needs: request.needs,
                        from_ms,
                        to_ms: now_ms(),
                        what: what.clone(),
                    };
                    let mut journal = self.journal.lock();
                    journal.failed_predictions += u64::from(request.service == Service::Serving);
                    journal.failures.push(failure);
                    drop(journal);
                    let running_ms = self.board.history().running_ms(started_ms, now_ms());
                    if running_ms > OPERATION_LIMIT_MS {
                        self.journal.lock().refused.push(what);
                        return None;
                    }
                }
            }
            retried = true;
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Sends a request to one replica. An error of the server is a failure.
    async fn once(&self, replica: Replica, request: &Request) -> Result<(StatusCode, Vec<u8>), String> {
        let url = format!("{}{}", self.board.url(replica), request.path);
        let builder = self.http.request(request.method.clone(), url);
        let builder = match &request.body {
            Body::None => builder,
            Body::Json(body) => builder.json(body),
            Body::Bytes(bytes) => builder.body(bytes.clone()),
        };
        let answer = builder.send().await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&bytes)));
        }
        Ok((status, bytes.to_vec()))
    }

    /// [`Self::send`] of a change that may have been carried out before: 2xx, or an error that says so.
    /// Any other answer is noted.
    pub(in crate::chaos) async fn change(&self, kind: &'static str, request: &Request) -> Option<Answer> {
        let answer = self.send(kind, request).await?;
        let exists =
            answer.body["error_code"] == "RESOURCE_ALREADY_EXISTS" || answer.status == StatusCode::CONFLICT;
        if answer.status.is_success() || answer.retried && exists {
            return Some(answer);
        }
        let refused =
            format!("{kind}: {} {}: {}: {}", request.method, request.path, answer.status, answer.body);
        self.journal.lock().refused.push(refused);
        None
    }
}
