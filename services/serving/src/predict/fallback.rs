//! Another version in place of one that fails.

use std::sync::Arc;
use std::time::Duration;

use slipway_api::predictions::Variant;
use slipway_inference::Tensor;

use super::{Call, Predictor, Way, told};
use crate::metrics::{Fallback, Outcome};
use crate::models::routing::{Pick, Route};
use crate::predict::missed::Missed;

impl Predictor {
    /// A candidate that fails must not cost the client its answer: the stable version gives it.
    pub(super) async fn stand_in(
        &self,
        route: &Arc<Route>,
        call: &Call<'_>,
        way: Way<'_>,
        failed: Pick,
        inputs: &Arc<Vec<Tensor>>,
        missed: Missed,
    ) -> Result<(Pick, Arc<Vec<Tensor>>), Missed> {
        // Nobody waits for the answer any more.
        let wanted = missed.outcome != Outcome::Expired;
        let stable = (wanted && failed.variant == Variant::Candidate)
            .then(|| route.stable(&failed.source.version))
            .flatten();
        let Some(stable) = stable else { return Err(missed) };
        let outputs = self.run(call, way, &stable, inputs, None).await?;
        self.metrics.fallback(&route.table.deployment, Fallback::Failed);
        if missed.outcome == Outcome::Rejected {
            // What the stable version takes is a fair request; that the candidate refuses it speaks against the candidate.
            let error = Err(told(&failed.source, &missed));
            self.observe(call.request_id, &failed, inputs, Duration::ZERO, error, None);
        }
        Ok((stable, outputs))
    }
}
