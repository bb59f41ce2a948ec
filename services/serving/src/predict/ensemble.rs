//! Ensembles: a request to each of their models.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use slipway_domain::ensemble::Definition;
use slipway_inference::{Inference, Tensor};

use super::waiting::patience;
use super::{Call, Predictor, Way, steps};
use crate::failure::Kind;
use crate::metrics::Outcome;
use crate::predict::missed::Missed;

impl Predictor {
    /// Runs the models of an ensemble, each as a request to its deployment, within the time of the whole.
    pub(super) async fn ensemble(
        &self,
        call: &Call<'_>,
        way: Way<'_>,
        definition: &Definition,
        inputs: &[Tensor],
        started: Instant,
    ) -> Result<Inference, Missed> {
        let (limit, late) = patience(call.timeout_us);
        let way = way.deeper()?;
        let ran = steps::run(definition, inputs, |at, inputs| {
            let step = &definition.steps[at];
            let left = limit.saturating_sub(started.elapsed()).as_micros();
            // 0 would be no limit.
            let timeout_us = Some(u64::try_from(left).unwrap_or(u64::MAX).max(1));
            let call = Call { version: step.version.as_deref(), timeout_us, ..*call };
            self.step(call, way, &step.model, inputs)
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

    /// Answers one step of an ensemble. It is boxed, because the model of a step may be an ensemble in its turn.
    fn step<'call>(
        &'call self,
        call: Call<'call>,
        way: Way<'call>,
        model: &'call str,
        inputs: Vec<Tensor>,
    ) -> BoxFuture<'call, Result<Arc<Vec<Tensor>>, Missed>> {
        let answered = async move {
            let route = self.routing.get(model).map_err(Missed::of_a_step)?;
            let answer = self.answer(&route, &call, way, |_| Ok(inputs)).await.map_err(|missed| {
                if missed.failure.kind == Kind::NotFound { Missed::of_a_step(missed.failure) } else { missed }
            })?;
            Ok(answer.outputs)
        };
        answered.boxed()
    }
}
