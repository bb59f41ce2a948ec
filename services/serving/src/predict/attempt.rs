//! One run of one version for one request.

use std::sync::Arc;
use std::time::Duration;

use slipway_inference::Tensor;

use super::call::Call;
use super::fault::Met;
use crate::models::routing::Pick;
use crate::records::Primary;

/// What is tried: a version, for a call, with its inputs.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'attempt> {
    /// What the client asked for.
    pub call: &'attempt Call<'attempt>,
    /// The version.
    pub pick: &'attempt Pick,
    /// Inputs of the request.
    pub inputs: &'attempt Arc<Vec<Tensor>>,
    /// For a shadow: the answer that the client got.
    pub primary: Option<&'attempt Primary>,
    /// Of a drill against users' requests: the fault that this one meets.
    pub fault: Option<Met<'attempt>>,
}

/// An attempt that is over.
pub(super) struct Ended<'attempt> {
    /// What was tried.
    pub attempt: Attempt<'attempt>,
    /// Time in queue and model.
    pub latency: Duration,
    /// The outputs, or why there are none.
    pub outcome: Result<Arc<Vec<Tensor>>, String>,
}

impl<'attempt> Attempt<'attempt> {
    /// An attempt to answer the client.
    pub(super) const fn new(
        call: &'attempt Call<'attempt>,
        pick: &'attempt Pick,
        inputs: &'attempt Arc<Vec<Tensor>>,
    ) -> Self {
        Self { call, pick, inputs, primary: None, fault: None }
    }

    /// Rows of the request.
    pub(super) fn rows(&self) -> u64 {
        self.inputs.first().map_or(0, Tensor::rows)
    }

    /// How it ended, for its record.
    pub(super) const fn ended(
        self,
        latency: Duration,
        outcome: Result<Arc<Vec<Tensor>>, String>,
    ) -> Ended<'attempt> {
        Ended { attempt: self, latency, outcome }
    }
}
