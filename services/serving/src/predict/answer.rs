//! Who answers a request.

use std::sync::Arc;
use std::time::Duration;

use slipway_inference::{Signature, Tensor};
use slipway_runtime::clock::now_unix_ms;

use super::attempt::Attempt;
use super::call::{Answer, Call};
use super::drills::Drilled;
use super::missed::Missed;
use super::predictor::Predictor;
use crate::failure::Failure;
use crate::metrics::{Fallback, Outcome};
use crate::models::Absent;
use crate::models::routing::{Pick, Route};

impl Predictor {
    /// Refuses a request before it is read, where it could only be refused: under overload, reading would
    /// take the time of answers.
    ///
    /// # Errors
    /// The version that would answer has no room for it.
    pub(crate) fn admit(&self, route: &Route, version: Option<&str>) -> Result<(), Failure> {
        route.answers()?;
        let pick = match version {
            Some(version) => route.pinned(version)?,
            // With candidates it is not known yet who answers.
            None if route.table.candidates.is_empty() => route.representative()?,
            None => return Ok(()),
        };
        let admitted = match pick.resident.served() {
            Some(served) => served.admit().map_err(Failure::from),
            None if pick.resident.is_crowded() => {
                Err(Absent::Crowded.failure(&pick.source.deployment, &pick.source.version))
            }
            None => Ok(()),
        };
        admitted.inspect_err(|_overloaded| {
            pick.stats.failed(Duration::ZERO);
            pick.meters.failed(pick.variant, Outcome::Overloaded);
        })
    }

    /// Answers one request. `inputs` are read once the version is known.
    ///
    /// # Errors
    /// Unknown or unready version, inputs that do not fit, a full queue, a model that fails.
    pub(crate) async fn predict(
        &self,
        route: &Arc<Route>,
        call: &Call<'_>,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>, Failure>,
    ) -> Result<Answer, Failure> {
        self.answer(route, call, inputs).await.map_err(|missed| missed.failure)
    }

    /// [`Self::predict`], also for the steps of an ensemble.
    pub(super) async fn answer(
        &self,
        route: &Arc<Route>,
        call: &Call<'_>,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>, Failure>,
    ) -> Result<Answer, Missed> {
        route.answers()?;
        let pick = match call.version {
            Some(version) => route.pinned(version)?,
            None => route.draw(call.headers)?,
        };
        if pick.fell_back {
            self.metrics.fallback(&route.table.deployment, Fallback::NotReady);
        }
        let inputs = Arc::new(inputs(&pick.described.signature)?);
        let drilled = self.drilled(route, call, &pick);
        let fault = drilled.as_ref().and_then(Drilled::met);
        let attempt = Attempt { fault, ..Attempt::new(call, &pick, &inputs) };
        let result = self.run(attempt).await;
        if let Some(drilled) = &drilled {
            self.count_drilled(drilled, attempt, &result);
        }
        let (pick, outputs) = match result {
            Ok(outputs) => (pick, outputs),
            Err(missed) => {
                let fallen_back = self.fall_back(route, attempt, missed).await?;
                (fallen_back.pick, fallen_back.outputs)
            }
        };
        if route.is_first(&pick.source.version) {
            announce_first(route, &pick);
        }
        self.copy_to_shadows(route, Attempt::new(call, &pick, &inputs), &outputs);
        let rows = inputs.first().map_or(0, Tensor::rows);
        Ok(Answer { source: pick.source, outputs, rows, described: pick.described })
    }
}

/// Ends the trace of a promotion: the decision's span is the parent.
fn announce_first(route: &Route, pick: &Pick) {
    let table = &route.table;
    let span = tracing::info_span!(
        parent: None,
        "serving.first_prediction",
        deployment = table.deployment,
        version = pick.source.version,
        revision = table.revision,
        since_decision_ms = now_unix_ms().saturating_sub(table.decided_at_unix_ms),
    );
    slipway_telemetry::set_parent(&span, table.traceparent.as_deref());
    let _entered = span.enter();
    tracing::info!("first prediction by a new traffic table");
}
