//! Spans of what is over already: their times are known afterwards, so that nothing is measured for a trace
//! that is not collected.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

pub use opentelemetry::KeyValue;
use opentelemetry::trace::{
    Link, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry_sdk::trace::SdkTracer;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Makes spans, where they leave the process.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();
/// Starts a trace for 1 in N requests; 0 disables that.
static RATE: AtomicU32 = AtomicU32::new(1);
/// Requests that could have started one.
static SEEN: AtomicU32 = AtomicU32::new(0);

/// Whether [`BY_PATH`] is asked.
static CHOOSES_BY_PATH: AtomicBool = AtomicBool::new(false);
static BY_PATH: RwLock<Option<ByPath>> = RwLock::new(None);

type Choice = dyn Fn(&str) -> Option<bool> + Send + Sync;

/// Says whether a request of this path begins a trace; `None`: it does as all others do, by the [`rate`].
#[derive(Clone)]
pub struct ByPath(Arc<Choice>);

impl ByPath {
    /// What `choice` says.
    pub fn new(choice: impl Fn(&str) -> Option<bool> + Send + Sync + 'static) -> Self {
        Self(Arc::new(choice))
    }
}

impl fmt::Debug for ByPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ByPath").finish_non_exhaustive()
    }
}

pub(crate) fn export(tracer: SdkTracer, rate: u32) {
    set_rate(rate);
    // Set twice only where telemetry is, which is an error of its own.
    let _ = TRACER.set(tracer);
}

/// Starts a trace for 1 in N requests; 0 disables that. Requests of a sampled caller are always traced.
pub fn rate() -> u32 {
    RATE.load(Ordering::Relaxed)
}

/// Changes the [`rate`] at once.
pub fn set_rate(rate: u32) {
    RATE.store(rate, Ordering::Relaxed);
}

fn begins() -> bool {
    match rate() {
        0 => false,
        1 => true,
        rate => SEEN.fetch_add(1, Ordering::Relaxed).is_multiple_of(rate),
    }
}

/// Lets `choice` decide for some paths, at once; `None`: the [`rate`] is for all.
pub fn choose_by_path(choice: Option<ByPath>) {
    let mut by_path = BY_PATH.write().unwrap_or_else(PoisonError::into_inner);
    CHOOSES_BY_PATH.store(choice.is_some(), Ordering::Relaxed);
    *by_path = choice;
}

/// Whether some paths have a choice of their own.
pub fn chooses_by_path() -> bool {
    CHOOSES_BY_PATH.load(Ordering::Relaxed)
}

/// Whether a request of this path, which comes without a trace, begins one now.
pub fn begins_at(path: &str) -> bool {
    if chooses_by_path() {
        let choice = BY_PATH.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(begins) = choice.and_then(|choice| (choice.0)(path)) {
            return begins;
        }
    }
    begins()
}

/// A span that is collected.
#[derive(Debug, Clone)]
pub struct Collected(opentelemetry::Context);

/// Names a span to other parts of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanName {
    /// Of its trace.
    pub trace_id: [u8; 16],
    /// Of the span.
    pub span_id: [u8; 8],
}

/// A span that is over.
#[derive(Debug)]
pub struct Past<'links> {
    /// What happened.
    pub name: &'static str,
    /// When it began.
    pub from: SystemTime,
    /// When it ended.
    pub to: SystemTime,
    /// More about it.
    pub attributes: Vec<KeyValue>,
    /// Spans that it also belongs to.
    pub links: &'links [SpanName],
}

impl Collected {
    /// The current span; `None` where it is not collected, which costs a load of a flag where nothing is.
    pub fn current() -> Option<Self> {
        if !crate::is_exporting() {
            return None;
        }
        let context = Span::current().context();
        let sampled = context.span().span_context().is_sampled();
        sampled.then_some(Self(context))
    }

    /// Its name.
    pub fn name(&self) -> SpanName {
        let span = self.0.span();
        let context = span.span_context();
        SpanName { trace_id: context.trace_id().to_bytes(), span_id: context.span_id().to_bytes() }
    }

    /// Collects a child, which may have children in turn.
    pub fn record(&self, past: Past<'_>) -> Self {
        let Some(tracer) = TRACER.get() else { return self.clone() };
        let linked = |name: &SpanName| {
            let (trace, span) = (TraceId::from_bytes(name.trace_id), SpanId::from_bytes(name.span_id));
            let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default());
            Link::with_context(context)
        };
        let span = tracer
            .span_builder(past.name)
            .with_start_time(past.from)
            .with_attributes(past.attributes)
            .with_links(past.links.iter().map(linked).collect())
            .start_with_context(tracer, &self.0);
        let context = self.0.with_span(span);
        context.span().end_with_timestamp(past.to);
        Self(context)
    }
}
