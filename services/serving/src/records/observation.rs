//! What a version saw and answered.

use std::sync::Arc;
use std::time::Duration;

use slipway_api::predictions::Variant;
use slipway_inference::Tensor;

use super::non_finite;
use crate::source::Source;

/// What a version saw and answered, not yet as JSON. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// The client's id, or one made for it.
    pub request_id: String,
    /// Which version ran.
    pub source: Arc<Source>,
    /// Why it ran.
    pub variant: Variant,
    /// When, Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// Time in queue and model.
    pub latency: Duration,
    /// Rows of the request.
    pub rows: u64,
    /// Rows that the tensors hold, where the request is too large to record whole; `None`: all.
    pub row_indices: Option<Arc<[u64]>>,
    /// Inputs.
    pub inputs: Arc<Vec<Tensor>>,
    /// Outputs, or why there are none.
    pub outcome: Result<Arc<Vec<Tensor>>, String>,
    /// NaN and infinities among outputs that the record goes without.
    pub non_finite_outputs: u64,
    /// For a shadow: who answered the client, and what.
    pub primary: Option<Primary>,
}

/// The answer that a shadow's is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Primary {
    /// Version that answered.
    pub source: Arc<Source>,
    /// Its answer.
    pub outputs: Arc<Vec<Tensor>>,
}

impl Observation {
    /// Memory of the tensors.
    pub(super) fn size_bytes(&self) -> usize {
        let sum = |tensors: &[Tensor]| tensors.iter().map(Tensor::size_bytes).sum::<usize>();
        let primary = self.primary.as_ref().map_or(0, |primary| sum(&primary.outputs));
        sum(&self.inputs) + self.outcome.as_ref().map_or(0, |outputs| sum(outputs)) + primary
    }

    /// [`Self::latency`] in microseconds.
    pub(super) fn latency_us(&self) -> u64 {
        u64::try_from(self.latency.as_micros()).unwrap_or(u64::MAX)
    }

    /// NaN and infinities among the outputs, recorded or not.
    pub(super) fn count_non_finite(&self) -> u64 {
        self.non_finite_outputs + self.outcome.as_ref().map_or(0, |outputs| non_finite::of(outputs))
    }

    /// Rows that a client of the deployment got an answer for, as
    /// [`slipway_api::predictions::PredictionRecord::counted_rows`] has it.
    pub(super) fn counted_rows(&self) -> u64 {
        let counted = matches!(self.variant, Variant::Stable | Variant::Candidate) && self.outcome.is_ok();
        if counted { self.rows } else { 0 }
    }
}
