//! Calls that were refused or that may have changed something, on their way into the audit trail of the
//! registry.
//!
//! They leave through a bounded queue, so that no request waits for NATS: a change commits with its own event
//! in any case, and a service that rejected changes while NATS is unreachable would turn an outage of the
//! trail into one of the platform. Calls that do not fit are counted, and so are refused calls beyond
//! [`MAX_REFUSED_PER_MINUTE`], which callers without a valid credential could otherwise fill the trail with.
//! A row of the trail says how many are missing: nothing is lost without a trace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use slipway_api::events::{CallOutcome, OmittedCalls, ServiceCall};
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use slipway_runtime::id;
use slipway_service_kit::metrics::Metrics;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Caller, Refused};

const QUEUE: usize = 4_096;
/// Places that refused calls leave free for calls that changed something.
const KEPT_FREE: usize = QUEUE / 2;
/// Calls that were omitted are told this often.
const OMITTED_INTERVAL_S: u64 = 10;
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
    omitted: Arc<Omitted>,
    refused: Family<ReasonLabels, Counter>,
    dropped: Counter,
}

/// Counts calls that are not in the trail, until that was told.
#[derive(Debug, Default)]
pub struct Omitted {
    answered: AtomicU64,
    refused: AtomicU64,
    /// Unix time in milliseconds of the first; 0 where there is none.
    since_ms: AtomicU64,
}

impl Omitted {
    /// Counts one.
    pub fn count(&self, outcome: CallOutcome, now_ms: u64) {
        let _ = self.since_ms.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        let counter = if outcome == CallOutcome::Answered { &self.answered } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what was taken and could not be told.
    pub fn put_back(&self, omitted: OmittedCalls) {
        let OmittedCalls { answered, refused, since_unix_ms } = omitted;
        self.since_ms.store(since_unix_ms, Ordering::Relaxed);
        self.answered.fetch_add(answered, Ordering::Relaxed);
        self.refused.fetch_add(refused, Ordering::Relaxed);
    }

    /// What was counted since the last time; `None` where nothing was.
    pub fn take(&self) -> Option<OmittedCalls> {
        let since_unix_ms = self.since_ms.swap(0, Ordering::Relaxed);
        let answered = self.answered.swap(0, Ordering::Relaxed);
        let refused = self.refused.swap(0, Ordering::Relaxed);
        (answered + refused > 0).then_some(OmittedCalls { answered, refused, since_unix_ms })
    }
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
    omitted: Arc<Omitted>,
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
        omitted: Arc::default(),
        refused: Family::default(),
        dropped: Counter::default(),
    };
    let refused = "Requests refused by access control";
    metrics.register("access_requests_refused", refused, calls.refused.clone());
    let dropped = "Calls that are not in the audit trail; a row of the trail has their number";
    metrics.register("access_audit_calls_dropped", dropped, calls.dropped.clone());
    let omitted = Arc::clone(&calls.omitted);
    (calls, CallSender { service, queue: receiver, omitted })
}

impl Calls {
    fn omit(&self, outcome: CallOutcome) {
        self.dropped.inc();
        self.omitted.count(outcome, now_unix_ms());
    }

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
                if !calls.refusals.allows() || calls.queue.capacity() < KEPT_FREE {
                    return calls.omit(CallOutcome::Refused);
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
            omitted: None,
        };
        if calls.queue.try_send(call).is_err() {
            calls.omit(what);
        }
    }
}

impl CallSender {
    /// Sends what is recorded until the shutdown, then the remainder of the queue.
    pub async fn run(mut self, bus: EventBus, shutdown: CancellationToken) {
        let mut due = tokio::time::interval(Duration::from_secs(OMITTED_INTERVAL_S));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                call = self.queue.recv() => match call {
                    Some(call) => self.send(&bus, &call, &shutdown).await,
                    // All recorders are gone.
                    None => break shutdown.cancelled().await,
                },
                _ = due.tick() => if let Some(omitted) = self.omitted.take() {
                    let call = ServiceCall::omitted(self.service, omitted, now_unix_ms());
                    self.send(&bus, &call, &shutdown).await;
                },
            }
        }
        let flush = async {
            while let Ok(call) = self.queue.try_recv() {
                if self.publish(&bus, id::time_ordered(), &call).await.is_err() {
                    self.omitted.count(call.outcome, call.at_unix_ms);
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(FLUSH_MS), flush).await;
        self.tell_the_rest(&bus).await;
    }

    /// Says how many calls are not sent, in the trail if possible, and in the log.
    async fn tell_the_rest(mut self, bus: &EventBus) {
        while let Ok(call) = self.queue.try_recv() {
            self.omitted.count(call.outcome, call.at_unix_ms);
        }
        let Some(omitted) = self.omitted.take() else { return };
        let OmittedCalls { answered, refused, .. } = omitted;
        let call = ServiceCall::omitted(self.service, omitted, now_unix_ms());
        let published = self.publish(bus, id::time_ordered(), &call);
        let told = tokio::time::timeout(Duration::from_millis(RETRY_DELAY_MS), published).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::error!(answered, refused, "calls are not in the audit trail: NATS is unreachable");
        }
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
                () = shutdown.cancelled() => return self.give_up(call),
                () = tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)) => {}
            }
        }
    }

    /// Counts a call that is not sent.
    fn give_up(&self, call: &ServiceCall) {
        match call.omitted {
            None => self.omitted.count(call.outcome, call.at_unix_ms),
            Some(omitted) => self.omitted.put_back(omitted),
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
