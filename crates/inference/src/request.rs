//! Requests to a model, and its answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Tensor;

/// What a model is asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Every input of the model, and those of its optional ones that are given, in any order.
    pub inputs: Arc<Vec<Tensor>>,
    /// Not run after this moment.
    pub deadline: Option<Instant>,
    /// Whether it goes before others that wait.
    pub priority: Priority,
    /// Context of the request, if its batch is to be traced by its requests.
    pub origin: Option<Origin>,
}

/// Names a request beyond this process: trace and span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Its span.
    pub span_id: [u8; 8],
}

/// An answer, and where its time went.
#[derive(Debug, Clone)]
pub struct Inference {
    /// Every output of the model, in its order.
    pub outputs: Vec<Tensor>,
    /// Waiting for a run.
    pub queued: Duration,
    /// Handing the inputs to ONNX Runtime.
    pub prepared: Duration,
    /// In the model.
    pub computed: Duration,
    /// Taking the outputs from ONNX Runtime.
    pub collected: Duration,
    /// Rows of the whole run, of which this request's may be a part.
    pub batch_rows: u64,
    /// Whether this is the first answer of its run: what counts runs, counts those.
    pub leads: bool,
    /// With the first answer of a joined run to a request with an origin: the origins of all its requests.
    pub origins: Vec<Origin>,
}

/// Names of classes, by output.
pub type Classes = BTreeMap<String, Vec<String>>;

/// Requests that were not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropCounts {
    /// Their callers went away.
    pub cancelled: u64,
    /// Their deadline passed.
    pub expired: u64,
    /// The queue was full.
    pub rejected: u64,
}

/// Which requests go first. Within one priority they go in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Before all others.
    High,
    /// Where nothing is said.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Request {
    /// A request of normal priority that may wait as long as it takes.
    pub const fn new(inputs: Arc<Vec<Tensor>>) -> Self {
        Self { inputs, deadline: None, priority: Priority::Normal, origin: None }
    }
}
