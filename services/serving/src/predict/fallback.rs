//! Another version in place of one that fails.

use std::sync::Arc;
use std::time::Duration;

use slipway_api::predictions::Variant;
use slipway_inference::Tensor;

use super::attempt::Attempt;
use super::missed::Missed;
use super::predictor::Predictor;
use super::run::recorded_reason;
use crate::metrics::{Fallback, Outcome};
use crate::models::routing::{Pick, Route};

/// The answer of the version that a request fell back to.
pub(super) struct FallenBack {
    /// The version.
    pub pick: Pick,
    /// Its outputs.
    pub outputs: Arc<Vec<Tensor>>,
}

impl Predictor {
    /// A candidate that fails must not cost the client its answer: the stable version gives it.
    ///
    /// # Errors
    /// There is no stable version to fall back to, or it fails in its turn.
    pub(super) async fn fall_back(
        &self,
        route: &Route,
        failed: Attempt<'_>,
        missed: Missed,
    ) -> Result<FallenBack, Missed> {
        // The client does not wait for the answer any more.
        let wanted = missed.outcome != Outcome::Expired;
        let stable = (wanted && failed.pick.variant == Variant::Candidate)
            .then(|| route.stable(&failed.pick.source.version))
            .flatten();
        let Some(stable) = stable else { return Err(missed) };
        let outputs = self.run(Attempt::new(failed.call, &stable, failed.inputs)).await?;
        self.metrics.fallback(&route.table.deployment, Fallback::Failed);
        if missed.outcome == Outcome::Rejected {
            // What the stable version takes is a valid request; that the candidate rejects it speaks against
            // the candidate.
            let error = recorded_reason(&failed.pick.source, &missed);
            self.observe(failed.ended(Duration::ZERO, Err(error)));
        }
        Ok(FallenBack { pick: stable, outputs })
    }
}
