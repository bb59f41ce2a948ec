//! Ensembles: a request to each of their models.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use slipway_domain::ensemble::Definition;
use slipway_inference::{Inference, Tensor};

use super::attempt::Attempt;
use super::call::Call;
use super::missed::Missed;
use super::predictor::Predictor;
use super::steps;
use super::waiting::patience;
use crate::failure::Kind;
use crate::metrics::Outcome;

impl Predictor {
    /// Runs the models of an ensemble, each as a request to its deployment, within the time of the whole.
    ///
    /// # Errors
    /// A step fails, or the time is over.
    pub(super) async fn ensemble(
        &self,
        attempt: Attempt<'_>,
        definition: &Definition,
        started: Instant,
    ) -> Result<Inference, Missed> {
        let Attempt { call, inputs, .. } = attempt;
        let (limit, late) = patience(call.timeout_us);
        let nested = call.nested()?;
        let ran = steps::run(definition, inputs, |at, inputs| {
            let step = &definition.steps[at];
            let left = limit.saturating_sub(started.elapsed()).as_micros();
            // 0 would be no limit.
            let timeout_us = Some(u64::try_from(left).unwrap_or(u64::MAX).max(1));
            self.step(Call { version: step.version.as_deref(), timeout_us, ..nested }, &step.model, inputs)
        });
        let outputs = match tokio::time::timeout(limit.saturating_sub(started.elapsed()), ran).await {
            Ok(Err(Missed { outcome: Outcome::Expired, .. })) | Err(_) => return Err(late.into()),
            Ok(ran) => ran?,
        };
        Ok(Inference {
            outputs,
            queued: Duration::ZERO,
            prepared: Duration::ZERO,
            computed: started.elapsed(),
            collected: Duration::ZERO,
            batch_rows: inputs.first().map_or(1, Tensor::rows),
            leads: true,
            origins: Vec::new(),
        })
    }

    /// Answers one step of an ensemble. It is boxed, because the model of a step may be an ensemble in its
    /// turn.
    fn step<'call>(
        &'call self,
        call: Call<'call>,
        model: &'call str,
        inputs: Vec<Tensor>,
    ) -> BoxFuture<'call, Result<Arc<Vec<Tensor>>, Missed>> {
        let answered = async move {
            let route = self.routing.get(model).map_err(Missed::of_a_step)?;
            let answer = self.answer(&route, &call, |_| Ok(inputs)).await.map_err(|missed| {
                if missed.failure.kind == Kind::NotFound { Missed::of_a_step(missed.failure) } else { missed }
            })?;
            Ok(answer.outputs)
        };
        answered.boxed()
    }
}
