//! Runs one version for one request, counts it and leaves its record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipway_inference::{Inference, Origin, Request, Tensor};
use slipway_runtime::clock::now_unix_ms;
use slipway_telemetry::spans::Collected;

use super::attempt::{Attempt, Ended};
use super::missed::Missed;
use super::predictor::Predictor;
use super::traces;
use super::waiting::{loaded, queued};
use crate::metrics::Outcome;
use crate::models::{Served, Work};
use crate::records::{Observation, non_finite};
use crate::source::Source;
use crate::stats::Run;

impl Predictor {
    /// Runs one version, counts it and leaves its record.
    pub(super) async fn run(&self, attempt: Attempt<'_>) -> Result<Arc<Vec<Tensor>>, Missed> {
        let started = Instant::now();
        let _in_flight = attempt.pick.stats.begun();
        let collected = Collected::current();
        let origin = collected.as_ref().map(traces::origin);
        let result = self.infer(attempt, started, origin).await;
        let took = started.elapsed();
        match result {
            Ok(inference) => Ok(self.succeeded(attempt, took, inference, collected.as_ref())),
            Err(missed) => {
                self.failed(attempt, took, &missed);
                Err(missed)
            }
        }
    }

    fn succeeded(
        &self,
        attempt: Attempt<'_>,
        took: Duration,
        inference: Inference,
        collected: Option<&Collected>,
    ) -> Arc<Vec<Tensor>> {
        let Inference {
            outputs,
            queued,
            prepared,
            computed,
            collected: taken_out,
            batch_rows,
            leads,
            origins,
        } = inference;
        let outputs = Arc::new(outputs);
        let run = Run {
            total: took,
            queued,
            prepared,
            computed,
            collected: taken_out,
            rows: attempt.rows(),
            run_rows: leads.then_some(batch_rows),
        };
        let pick = attempt.pick;
        if let Some(request) = collected {
            traces::record(request, pick, &run, traces::Batch { rows: batch_rows, members: &origins });
        }
        pick.stats.succeeded(&run, now_unix_ms());
        pick.meters.succeeded(pick.variant, &run, non_finite::of(&outputs));
        self.observe(attempt.ended(took, Ok(Arc::clone(&outputs))));
        outputs
    }

    fn failed(&self, attempt: Attempt<'_>, took: Duration, missed: &Missed) {
        let pick = attempt.pick;
        pick.stats.failed(took);
        pick.meters.failed(pick.variant, missed.outcome);
        // The client's mistakes and our load say nothing about the version.
        if missed.outcome == Outcome::Failure {
            let Source { deployment, version, .. } = &*pick.source;
            let error = recorded_reason(&pick.source, missed);
            tracing::warn!(deployment, version, error, "model failed");
            self.observe(attempt.ended(took, Err(error)));
        }
    }

    /// Runs a version, which is loaded first where it was unloaded.
    async fn infer(
        &self,
        attempt: Attempt<'_>,
        started: Instant,
        origin: Option<Origin>,
    ) -> Result<Inference, Missed> {
        let Attempt { call, pick, fault, .. } = attempt;
        if let Some(fault) = fault {
            fault.endure(call, &pick.source).await?;
        }
        let served = match pick.resident.used() {
            Some(served) => served,
            None => loaded(call, pick).await?,
        };
        self.infer_with(&served, attempt, started, origin).await
    }

    /// Runs a version that is in memory.
    pub(super) async fn infer_with(
        &self,
        served: &Served,
        attempt: Attempt<'_>,
        started: Instant,
        origin: Option<Origin>,
    ) -> Result<Inference, Missed> {
        let Attempt { call, inputs, .. } = attempt;
        served.described.check_rows(inputs)?;
        let model = match &served.work {
            Work::Model(model) => model,
            Work::Ensemble(definition) => {
                served.described.signature.check(inputs)?;
                return self.ensemble(attempt, definition, started).await;
            }
        };
        let contract = served.described.contract.as_ref();
        let inputs = match contract {
            None => Arc::clone(inputs),
            Some(contract) => {
                served.described.signature.check(inputs)?;
                Arc::new(contract.inputs(inputs))
            }
        };
        let request = Request { inputs, deadline: None, priority: call.priority, origin };
        let answered = match model.infer_at_once(&request) {
            Some(answered) => answered,
            None => queued(model, request, call.timeout_us, started).await,
        }?;
        Ok(match contract {
            None => answered,
            Some(contract) => {
                let outputs = contract.outputs(answered.outputs, &served.described.signature);
                Inference { outputs, ..answered }
            }
        })
    }

    /// Leaves the record of an attempt, where it is one of the sample.
    pub(super) fn observe(&self, ended: Ended<'_>) {
        let Ended { attempt, latency, outcome } = ended;
        let Attempt { call, pick, inputs, primary, .. } = attempt;
        if !pick.source.policy.takes(call.request_id) {
            return;
        }
        self.recorder.record(Observation {
            non_finite_outputs: 0,
            request_id: call.request_id.to_owned(),
            source: Arc::clone(&pick.source),
            variant: pick.variant,
            at_unix_ms: now_unix_ms(),
            latency,
            rows: attempt.rows(),
            row_indices: None,
            inputs: Arc::clone(inputs),
            outcome,
            primary: primary.cloned(),
        });
    }
}

/// What a record and the log say of a failure. A runtime's message may repeat values, also those that are
/// redacted.
pub(super) fn recorded_reason(source: &Source, missed: &Missed) -> String {
    if source.policy.redact.is_empty() {
        return missed.to_string();
    }
    "it failed; the message may hold what is redacted and is left out".to_owned()
}
