//! What the load wrote and was acknowledged, and what it was answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::faults::Replica;
use super::history::Failure;

/// A point of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) step: i64,
    pub(super) at_ms: i64,
    pub(super) value: f64,
}

/// A run whose creation was acknowledged.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Run {
    /// Acknowledged points of its metric.
    pub(super) points: Vec<Point>,
    pub(super) finished: bool,
}

/// An answered prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prediction {
    pub(super) replica: Replica,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    /// The version that the answer names.
    pub(super) version: u32,
    /// What its model computed: the version, plus what the inputs add.
    pub(super) score: f64,
    /// What the inputs add: 0 unless they drift.
    pub(super) shift: f64,
}

/// A move of the watched alias that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) version: u32,
    /// When it was acknowledged, Unix milliseconds.
    pub(super) at_ms: u64,
}

/// Everything of a run of the harness.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    pub(super) runs: BTreeMap<String, Run>,
    /// Acknowledged versions of the model.
    pub(super) versions: Vec<u32>,
    /// Acknowledged files, by the path of the API.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) moves: Vec<Move>,
    pub(super) predictions: Vec<Prediction>,
    /// Acknowledged jobs: number of the submission and id of the job.
    pub(super) jobs: BTreeMap<usize, String>,
    /// How often each event was delivered to the webhook, by id.
    pub(super) deliveries: BTreeMap<String, u64>,
    /// Predictions that failed, and may have been recorded nevertheless.
    pub(super) failed_predictions: u64,
    /// Failed requests to one replica; most were answered by another one then.
    pub(super) failures: Vec<Failure>,
    /// Failures that were judged and dropped from the list.
    pub(super) judged: usize,
    /// Operations that no replica accepted in time.
    pub(super) refused: Vec<String>,
    /// Answered requests, by kind.
    pub(super) answered: BTreeMap<&'static str, u64>,
}

/// The journal, shared by the tasks of the load.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Journal>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Journal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
