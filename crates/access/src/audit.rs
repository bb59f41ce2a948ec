//! Calls that were refused or that may have changed something, on their way into the audit trail of the
//! registry.
//!
//! They leave through a bounded queue, so that no request waits for NATS. While NATS is unreachable they wait
//! in the queue; calls beyond its capacity are counted and dropped. Calls without a valid credential could
//! fill the trail, so at most [`MAX_REFUSED_PER_MINUTE`] refused calls are recorded per minute and replica,
//! and the others are counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use slipway_api::events::{CallOutcome, ServiceCall};
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use slipway_runtime::id;
use slipway_service_kit::metrics::Metrics;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Caller, Refused};

const QUEUE: usize = 4_096;
/// Refused calls that one replica records per minute.
pub const MAX_REFUSED_PER_MINUTE: u32 = 60;
const RETRY_DELAY_MS: u64 = 500;
/// Longest time in which the queue is sent during a shutdown.
const FLUSH_MS: u64 = 3_000;
const MAX_PATH_CHARS: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Records calls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Calls {
    service: &'static str,
    queue: mpsc::Sender<ServiceCall>,
    refusals: Arc<RefusalLimit>,
    refused: Family<ReasonLabels, Counter>,
    dropped: Counter,
}

/// Limits how many refused calls are recorded: [`MAX_REFUSED_PER_MINUTE`].
#[derive(Debug)]
pub struct RefusalLimit(Mutex<Window>);

#[derive(Debug)]
struct Window {
    since: Instant,
    count: u32,
}

impl Default for RefusalLimit {
    fn default() -> Self {
        Self(Mutex::new(Window { since: Instant::now(), count: 0 }))
    }
}

impl RefusalLimit {
    /// Whether one more is recorded.
    pub fn allows(&self) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.since.elapsed() >= Duration::from_secs(60) {
            *window = Window { since: Instant::now(), count: 0 };
        }
        window.count = window.count.saturating_add(1);
        window.count <= MAX_REFUSED_PER_MINUTE
    }
}

/// Sends recorded calls to NATS.
#[derive(Debug)]
pub struct CallSender {
    service: &'static str,
    queue: mpsc::Receiver<ServiceCall>,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    Answered(u16),
    Refused(&'a Refused),
}

impl Outcome<'_> {
    pub(crate) fn of(response: &Response) -> Self {
        Self::Answered(response.status().as_u16())
    }
}

/// A call that is in progress.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    calls: &'a Calls,
    method: String,
    path: String,
}

/// The recorder of a service, e.g. `launcher`, and the task that sends what it records.
pub fn calls(service: &'static str, metrics: &Metrics) -> (Calls, CallSender) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let calls = Calls {
        service,
        queue: sender,
        refusals: Arc::default(),
        refused: Family::default(),
        dropped: Counter::default(),
    };
    let refused = "Requests refused by access control";
    metrics.register("access_requests_refused", refused, calls.refused.clone());
    let dropped = "Calls that did not fit into the queue for the audit trail";
    metrics.register("access_audit_calls_dropped", dropped, calls.dropped.clone());
    (calls, CallSender { service, queue: receiver })
}

impl Calls {
    pub(crate) fn begin(&self, request: &Request) -> Call<'_> {
        let path = request.uri().path().chars().take(MAX_PATH_CHARS).collect();
        Call { calls: self, method: request.method().to_string(), path }
    }

    /// Records a call that this service answered itself.
    pub fn record(&self, caller: &Caller, method: &str, path: &str, refused: Option<&Refused>) {
        let call = Call { calls: self, method: method.to_owned(), path: path.to_owned() };
        call.end(caller, refused.map_or(Outcome::Answered(200), Outcome::Refused));
    }
}

impl Call<'_> {
    pub(crate) fn end(self, caller: &Caller, outcome: Outcome<'_>) {
        let calls = self.calls;
        let (what, status, reason) = match outcome {
            Outcome::Answered(status) => (CallOutcome::Answered, status, String::new()),
            Outcome::Refused(refused) => {
                calls.refused.get_or_create(&ReasonLabels { reason: refused.reason() }).inc();
                if !calls.refusals.allows() {
                    return;
                }
                let status = match refused {
                    Refused::Unauthenticated(_) => 401,
                    Refused::Denied(_) => 403,
                    Refused::Unavailable(_) => 503,
                };
                (CallOutcome::Refused, status, refused.to_string())
            }
        };
        let call = ServiceCall {
            service: calls.service.to_owned(),
            outcome: what,
            principal: caller.principal.to_string(),
            credential: caller.credential.to_string(),
            origin: caller.origin.clone(),
            method: self.method,
            path: self.path,
            status,
            reason,
            at_unix_ms: now_unix_ms(),
        };
        if calls.queue.try_send(call).is_err() {
            calls.dropped.inc();
        }
    }
}

impl CallSender {
    /// Sends what is recorded until the shutdown, then the remainder of the queue.
    pub async fn run(mut self, bus: EventBus, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                call = self.queue.recv() => match call {
                    Some(call) => self.send(&bus, &call, &shutdown).await,
                    // All recorders are gone.
                    None => return shutdown.cancelled().await,
                },
            }
        }
        let flush = async {
            while let Ok(call) = self.queue.try_recv() {
                if self.publish(&bus, id::time_ordered(), &call).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(FLUSH_MS), flush).await;
    }

    async fn send(&self, bus: &EventBus, call: &ServiceCall, shutdown: &CancellationToken) {
        // The same id for each attempt, so that the event is stored once.
        let id = id::time_ordered();
        let mut failing = false;
        while let Err(error) = self.publish(bus, id, call).await {
            if !std::mem::replace(&mut failing, true) {
                tracing::warn!(%error, "calls for the audit trail wait");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)) => {}
            }
        }
    }

    async fn publish(
        &self,
        bus: &EventBus,
        id: Uuid,
        call: &ServiceCall,
    ) -> Result<(), slipway_event_bus::Error> {
        bus.publish_event(&format!("slipway/{}", self.service), id, call).await
    }
}
