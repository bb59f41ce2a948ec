//! Drills: copies of answered requests that meet a fault, and users' requests that do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipway_api::predictions::{RecordedTensor, Variant};
use slipway_api::traffic::{DrillTarget, Fault};
use slipway_inference::Tensor;
use slipway_runtime::clock::now_unix_ms;
use tokio::sync::OwnedSemaphorePermit;

use super::attempt::Attempt;
use super::call::Call;
use super::fault::{Consequence, Met};
use super::missed::Missed;
use super::predictor::{MAX_SHADOWS, Predictor};
use crate::drills::{Counters, NotCopied};
use crate::metrics::Outcome;
use crate::models::routing::{Pick, Route};
use crate::models::{Served, Work};
use crate::records::{differing_rows, non_finite, whole_values};

/// A request of a user to the stable version, while a drill of the deployment runs.
pub(super) struct Drilled {
    counters: Arc<Counters>,
    /// The fault that it meets.
    fault: Option<Fault>,
    started: Instant,
}

/// A request to a copy of the stable version.
pub(super) struct Copied {
    pub request_id: String,
    pub pick: Pick,
    pub served: Arc<Served>,
    pub inputs: Arc<Vec<Tensor>>,
    /// The answer to compare with, where there is one.
    pub answer: Option<Answered>,
}

/// An answer that was given before.
pub(super) enum Answered {
    /// To the request that is copied.
    Given(Arc<Vec<Tensor>>),
    /// To a recorded request.
    Recorded(Vec<RecordedTensor>),
}

impl Drilled {
    /// The fault that the request meets.
    pub(super) fn met(&self) -> Option<Met<'_>> {
        self.fault.map(|fault| Met { fault, drill_id: &self.counters.drill.id })
    }
}

impl Predictor {
    /// What a drill has to do with a request of a user.
    pub(super) fn drilled(&self, route: &Route, call: &Call<'_>, pick: &Pick) -> Option<Drilled> {
        let drill = route.table.drill.as_ref()?;
        // Clients that name a version, and ensembles, have not chosen this deployment's stable version.
        if pick.variant != Variant::Stable || call.depth > 0 {
            return None;
        }
        let now = now_unix_ms();
        let counters = self.routing.drills.running(&route.table, now)?;
        let fault = drill.met_by_users(call.request_id, now);
        Some(Drilled { counters, fault, started: Instant::now() })
    }

    /// Counts a request of a user, and copies it if copies meet the fault.
    pub(super) fn count_drilled(
        &self,
        drilled: &Drilled,
        attempt: Attempt<'_>,
        result: &Result<Arc<Vec<Tensor>>, Missed>,
    ) {
        let Drilled { counters, fault, started } = drilled;
        let side = if fault.is_some() { &counters.rehearsed } else { &counters.users };
        let outcome = match result {
            Ok(outputs) => {
                side.answered(started.elapsed(), non_finite::of(outputs) > 0);
                Outcome::Success
            }
            Err(missed) => {
                side.failed(missed.outcome, &missed.failure.message);
                missed.outcome
            }
        };
        if fault.is_some() {
            self.metrics.drilled(&attempt.pick.source.deployment, &counters.drill, outcome);
        }
        let copies = counters.drill.target == DrillTarget::Copies && counters.drill.fault.is_some();
        if let Ok(outputs) = result
            && copies
        {
            self.copy_for_drill(counters, attempt, outputs);
        }
    }

    /// Sends a copy of an answered request to the version that answered it.
    fn copy_for_drill(&self, counters: &Arc<Counters>, answered: Attempt<'_>, outputs: &Arc<Vec<Tensor>>) {
        let Attempt { call, pick, inputs, .. } = answered;
        let (served, permit) = match self.place_for_copy(pick) {
            Ok(place) => place,
            Err(why) => return counters.not_copied(why),
        };
        let copy = Copied {
            request_id: call.request_id.to_owned(),
            pick: pick.clone(),
            served,
            inputs: Arc::clone(inputs),
            answer: Some(Answered::Given(Arc::clone(outputs))),
        };
        let (this, counters) = (self.clone(), Arc::clone(counters));
        self.shadow_tasks.spawn(async move {
            this.rehearse(&counters, &copy).await;
            drop(permit);
        });
    }

    /// A place among the shadows, which are dropped first when there is too much to do. A version that is not
    /// in memory is not loaded for a copy, and its queue stays open for clients.
    pub(super) fn place_for_copy(
        &self,
        pick: &Pick,
    ) -> Result<(Arc<Served>, OwnedSemaphorePermit), NotCopied> {
        let served = pick.resident.served().ok_or(NotCopied::Busy)?;
        if matches!(served.work, Work::Ensemble(_)) {
            return Err(NotCopied::Ensemble);
        }
        let is_free = served.waiting() < MAX_SHADOWS && served.admit().is_ok();
        let permit = Arc::clone(&self.shadow_permits).try_acquire_owned().ok().filter(|_| is_free);
        permit.map(|permit| (served, permit)).ok_or(NotCopied::Busy)
    }

    /// Runs a copy, with the fault that it meets. Nothing of it is counted for the version, recorded or
    /// logged. The time that a fault adds is counted and not waited for: a copy keeps no place for it.
    pub(super) async fn rehearse(&self, counters: &Counters, copy: &Copied) {
        let call = Call::of_copy(&copy.request_id);
        let drill = &counters.drill;
        let met = drill.fault.filter(|_| drill.takes(&copy.request_id));
        let met = met.map(|fault| Met { fault, drill_id: &drill.id });
        let consequence = met.map(|met| met.consequence(&call, &copy.pick.source));
        let result = match consequence {
            Some(Consequence { missed: Some(missed), .. }) => Err(missed),
            Some(Consequence { added, .. }) => self.run_copy(&call, copy, added).await,
            None => self.run_copy(&call, copy, Duration::ZERO).await,
        };
        let outcome = match result {
            Ok((took, outputs)) => {
                counters.rehearsed.answered(took, non_finite::of(&outputs) > 0);
                self.compare(counters, copy, &outputs);
                Outcome::Success
            }
            Err(missed) => {
                counters.rehearsed.failed(missed.outcome, &missed.failure.message);
                missed.outcome
            }
        };
        self.metrics.drilled(&copy.pick.source.deployment, drill, outcome);
    }

    async fn run_copy(
        &self,
        call: &Call<'_>,
        copy: &Copied,
        added: Duration,
    ) -> Result<(Duration, Vec<Tensor>), Missed> {
        let started = Instant::now();
        let attempt = Attempt::new(call, &copy.pick, &copy.inputs);
        let inference = self.infer_with(&copy.served, attempt, started, None).await?;
        Ok((started.elapsed() + added, inference.outputs))
    }

    fn compare(&self, counters: &Counters, copy: &Copied, outputs: &[Tensor]) {
        let Some(answer) = &copy.answer else { return };
        let rows = copy.inputs.first().map_or(0, Tensor::rows);
        let output = copy.pick.source.prediction_output.as_deref();
        let whole;
        let answer = match answer {
            Answered::Given(tensors) => {
                whole = whole_values(tensors);
                &whole
            }
            Answered::Recorded(recorded) => recorded,
        };
        counters.compared(rows, differing_rows(answer, &whole_values(outputs), rows, output));
    }
}
