//! What a child is asked, and what it answers. Both are JSON: the first is its argument, the second the last
//! line that it writes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use slipway_inference::{Batching, Device, EmptyDimensions, LoadOptions};

/// First argument of a child.
pub(super) const ARGUMENT: &str = "load-model-and-exit";

/// A load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    /// ONNX Runtime.
    pub(super) library: PathBuf,
    /// Whether any version of it is used.
    pub(super) untested: bool,
    /// The model's file.
    pub(super) model: PathBuf,
    pub(super) device: String,
    pub(super) fallback: bool,
    pub(super) arena: bool,
    pub(super) intra_threads: usize,
    /// Memory that the child may take, in bytes.
    pub(super) memory_bytes: Option<u64>,
    /// How long the child may take, in seconds of a processor and of a clock.
    pub(super) timeout_s: u64,
    /// Process that waits for the child.
    pub(super) parent: u32,
    /// Of the inputs without elements that the model could be tried with, those that are left out, by their
    /// place.
    pub(super) skipped: BTreeSet<usize>,
    /// Whether none of them is tried.
    pub(super) skip_all: bool,
}

/// What a child writes, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// The model is loaded, and is run next on inputs without elements, of which this is the place.
    Trying(usize),
    /// The last line.
    Answer(Answer),
}

/// How the load went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// The model was loaded, warmed up and freed. It survived inputs in which these dimensions were empty.
    Loaded(Vec<EmptyDimensions>),
    /// ONNX Runtime, or what was read of the model before, refuses it.
    Refused(String),
}

impl Job {
    /// The options of the session; nothing is joined, so that the graph is not followed.
    pub(super) fn options(&self) -> LoadOptions {
        LoadOptions {
            instances: 1,
            intra_threads: self.intra_threads,
            batching: Batching { max_rows: 1, ..Batching::default() },
            arena: self.arena,
            device: Device::from_name(&self.device).unwrap_or_default(),
            fallback: self.fallback,
            ..LoadOptions::default()
        }
    }
}
