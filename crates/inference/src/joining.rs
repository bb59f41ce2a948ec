//! Whether waiting requests of a model are joined: decided when it is loaded, and revoked where an audit
//! finds a difference.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use slipway_onnx_graph::{Model, row_wise};

use crate::audit::Difference;
use crate::{Batching, Signature};

/// Whether requests are joined, and why, or why not.
#[derive(Debug, Clone, PartialEq)]
pub enum Joining {
    /// They are: the graph was proven to work row by row.
    Proven,
    /// They are: the version's settings say so.
    Declared,
    /// They are not, for this reason.
    Off(String),
    /// They were, until an audit found this.
    Stopped(Difference),
}

/// Audits of joined runs: a request of the run was run again, alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditCounts {
    /// Its answers agreed.
    pub agreed: u64,
    /// They did not, and requests are no longer joined.
    pub differed: u64,
}

impl Joining {
    /// Whether requests are joined.
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::Proven | Self::Declared)
    }

    /// Decides for a model that was just loaded.
    pub(crate) fn decide(graph: &Model, signature: &Signature, batching: &Batching) -> Self {
        if batching.max_rows <= 1 {
            return Self::Off("max_batch_rows is 1".to_owned());
        }
        match batching.join {
            Some(false) => Self::Off("its settings say that its rows depend on one another".to_owned()),
            Some(true) => match fixed(signature) {
                None => Self::Declared,
                Some(reason) => Self::Off(reason),
            },
            None => match row_wise::check(graph) {
                Ok(()) => fixed_output(signature).map_or(Self::Proven, Self::Off),
                Err(obstacle) => Self::Off(obstacle.to_string()),
            },
        }
    }
}

impl fmt::Display for Joining {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => formatter.write_str("every operator of the graph works row by row"),
            Self::Declared => formatter.write_str("the version's settings say that its rows are independent"),
            Self::Off(reason) => formatter.write_str(reason),
            Self::Stopped(difference) => write!(formatter, "stopped by an audit: {difference}"),
        }
    }
}

/// An input or output whose first dimension is not free.
fn fixed(signature: &Signature) -> Option<String> {
    let input = signature.inputs.iter().find(|spec| spec.shape.first() != Some(&-1));
    let input = input.map(|spec| format!("the first dimension of input '{}' does not vary", spec.name));
    input.or_else(|| fixed_output(signature))
}

fn fixed_output(signature: &Signature) -> Option<String> {
    // A shape that the model does not say is empty here, and may have rows.
    let output = signature.outputs.iter().find(|spec| spec.shape.first().is_some_and(|size| *size != -1));
    output.map(|spec| format!("the first dimension of output '{}' does not vary", spec.name))
}

/// The decision while the model is served.
#[derive(Debug)]
pub(crate) struct State {
    decided: Joining,
    stopped: OnceLock<Difference>,
    /// One of this many joined runs is audited; 0: none.
    audit_every: u64,
    runs: AtomicU64,
    agreed: AtomicU64,
    differed: AtomicU64,
}

impl State {
    pub(crate) const fn new(decided: Joining, audit_every: u64) -> Self {
        Self {
            decided,
            stopped: OnceLock::new(),
            audit_every,
            runs: AtomicU64::new(0),
            agreed: AtomicU64::new(0),
            differed: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.decided.is_on() && self.stopped.get().is_none()
    }

    pub(crate) fn joining(&self) -> Joining {
        self.stopped.get().map_or_else(|| self.decided.clone(), |found| Joining::Stopped(found.clone()))
    }

    pub(crate) fn stop(&self, difference: Difference) {
        if self.stopped.set(difference).is_ok() {
            self.differed.fetch_add(1, Relaxed);
        }
    }

    /// Counts a joined run; the places of the requests in it that have to run again alone, where it is
    /// audited. All of the first run's do, so that a model that was declared wrongly is found early: one
    /// request alone may be the one whose answer the others do not change. Later audits check one request
    /// each, at another place each time.
    pub(crate) fn audits(&self, requests: usize) -> Range<usize> {
        if self.audit_every == 0 {
            return 0..0;
        }
        let run = self.runs.fetch_add(1, Relaxed);
        if run == 0 {
            return 0..requests;
        }
        if !run.is_multiple_of(self.audit_every) {
            return 0..0;
        }
        let at = usize::try_from((run / self.audit_every) % requests.max(1) as u64).unwrap_or(0);
        at..at + 1
    }

    pub(crate) fn agreed(&self) {
        self.agreed.fetch_add(1, Relaxed);
    }

    pub(crate) fn audit_counts(&self) -> AuditCounts {
        AuditCounts { agreed: self.agreed.load(Relaxed), differed: self.differed.load(Relaxed) }
    }
}
