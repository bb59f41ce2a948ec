//! One prediction: draw a version, run it, stand in where it fails, leave a record, copy to shadows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipway_api::predictions::Variant;
use slipway_domain::traffic::{Draw, shadows_for, stable_hash};
use slipway_inference::{Error, Inference, Signature, Tensor};
use slipway_service_kit::clock::now_unix_ms;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::failure::Failure;
use crate::metrics::{Fallback, Outcome, ServingMetrics};
use crate::records::{Observation, Primary, Recorder};
use crate::routing::{Pick, Route, Routing};
use crate::stats::Run;

/// Copies that run at the same time; more are dropped, so that shadows never take the machine from clients.
const MAX_SHADOWS: usize = 64;
/// A model that has not answered within this time counts as failed.
const ANSWER_TIMEOUT_MS: u64 = 30_000;
/// Shadows may take this long after the last request.
const SHADOW_DRAIN_MS: u64 = 2_000;
/// Longest request id that is taken from a client.
const MAX_REQUEST_ID_BYTES: usize = 256;

/// Answers predictions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Predictor {
    /// Current routes.
    pub routing: Arc<Routing>,
    recorder: Recorder,
    metrics: ServingMetrics,
    shadow_permits: Arc<Semaphore>,
    shadow_tasks: TaskTracker,
}

/// What a client asked for, but for the inputs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    /// Deployment.
    pub deployment: String,
    /// A version by number, where the client named one.
    pub version: Option<String>,
    /// The client's id of the request.
    pub request_id: String,
    /// How long the client waits for the answer; a request that has not run by then does not run.
    pub timeout_us: Option<u64>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Version that gave it.
    pub version: String,
    /// Every output of the model.
    pub outputs: Arc<Vec<Tensor>>,
    /// Rows of the request.
    pub rows: u64,
}

/// The id of a request: the first of the client's that can be used, or a new one.
pub(crate) fn request_id(given: &[Option<&str>]) -> String {
    let usable =
        |id: &&str| !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && !id.contains(char::is_control);
    given.iter().flatten().copied().find(usable).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

impl Predictor {
    /// A predictor over `routing`.
    pub(crate) fn new(routing: Arc<Routing>, recorder: Recorder, metrics: ServingMetrics) -> Self {
        let shadow_permits = Arc::new(Semaphore::new(MAX_SHADOWS));
        Self { routing, recorder, metrics, shadow_permits, shadow_tasks: TaskTracker::new() }
    }

    /// Answers one request. `key` looks up a sticky key by its header's name; `inputs` are read once the version is known.
    ///
    /// # Errors
    /// Unknown or unready model, inputs that do not fit, a full queue, a model that fails.
    pub(crate) async fn predict(
        &self,
        call: &Call,
        key: impl Fn(&str) -> Option<String>,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>, Failure>,
    ) -> Result<Answer, Failure> {
        let route = self.routing.get(&call.deployment)?;
        let pick = match &call.version {
            Some(version) => route.pinned(version)?,
            None => {
                let sticky = route.table.sticky_key.as_ref().and_then(|sticky| key(&sticky.header));
                let uniform = rand::random::<f64>();
                route.pick(sticky.as_deref().map_or(Draw::Uniform(uniform), Draw::Sticky))?
            }
        };
        if pick.fell_back {
            self.metrics.fallback(&call.deployment, Fallback::NotReady);
        }
        let inputs = Arc::new(inputs(pick.model.signature())?);
        let (pick, outputs) = match self.run(&route, call, &pick, &inputs, None).await {
            Ok(outputs) => (pick, outputs),
            Err(error) => self.stand_in(&route, call, pick, &inputs, error).await?,
        };
        if route.is_first(&pick.version) {
            announce_first(&route, &pick);
        }
        self.copy_to_shadows(&route, call, &pick, &inputs, &outputs);
        let rows = inputs.first().map_or(0, Tensor::rows);
        Ok(Answer { version: pick.version, outputs, rows })
    }

    /// Waits for the shadows that still run, for a while.
    pub(crate) async fn drain(&self) {
        self.shadow_tasks.close();
        let limit = Duration::from_millis(SHADOW_DRAIN_MS);
        if tokio::time::timeout(limit, self.shadow_tasks.wait()).await.is_err() {
            tracing::warn!(limit_ms = SHADOW_DRAIN_MS, "some shadows were still running at the end");
        }
    }

    /// A candidate that fails must not cost the client its answer: the stable version gives it.
    async fn stand_in(
        &self,
        route: &Arc<Route>,
        call: &Call,
        failed: Pick,
        inputs: &Arc<Vec<Tensor>>,
        error: Error,
    ) -> Result<(Pick, Arc<Vec<Tensor>>), Failure> {
        // Nobody waits for the answer any more.
        let wanted = !matches!(error, Error::Expired { .. });
        let stable =
            (wanted && failed.variant == Variant::Candidate).then(|| route.stable(&failed.version)).flatten();
        let Some(stable) = stable else { return Err(error.into()) };
        let outputs = self.run(route, call, &stable, inputs, None).await?;
        self.metrics.fallback(&call.deployment, Fallback::Failed);
        if matches!(error, Error::InvalidInput { .. }) {
            // What the stable version takes is a fair request; that the candidate refuses it speaks against the candidate.
            self.observe(route, call, &failed, inputs, Duration::ZERO, Err(error.to_string()), None);
        }
        Ok((stable, outputs))
    }

    /// Runs one version, counts it and leaves its record.
    async fn run(
        &self,
        route: &Route,
        call: &Call,
        pick: &Pick,
        inputs: &Arc<Vec<Tensor>>,
        primary: Option<Primary>,
    ) -> Result<Arc<Vec<Tensor>>, Error> {
        let started = Instant::now();
        let (limit, late) = patience(call.timeout_us);
        let in_time = tokio::time::timeout(limit, pick.model.infer(Arc::clone(inputs))).await;
        let result = in_time.unwrap_or(Err(late));
        let took = started.elapsed();
        let count =
            |outcome| self.metrics.request(&call.deployment, &pick.version, pick.variant, outcome, took);
        match result {
            Ok(Inference { outputs, queued, prepared, computed, collected }) => {
                let outputs = Arc::new(outputs);
                let rows = inputs.first().map_or(0, Tensor::rows);
                let run = Run { total: took, queued, prepared, computed, collected, rows };
                pick.stats.succeeded(&run, now_unix_ms());
                count(Outcome::Success);
                self.observe(route, call, pick, inputs, took, Ok(Arc::clone(&outputs)), primary);
                Ok(outputs)
            }
            Err(error) => {
                pick.stats.failed(took);
                count(match error {
                    Error::InvalidInput { .. } => Outcome::Rejected,
                    Error::Overloaded { .. } => Outcome::Overloaded,
                    Error::Expired { .. } => Outcome::Expired,
                    _ => Outcome::Failure,
                });
                // The client's mistakes and our load say nothing about the version.
                if matches!(error, Error::Runtime(_) | Error::TimedOut { .. }) {
                    tracing::warn!(deployment = call.deployment, version = pick.version, %error, "a model failed");
                    self.observe(route, call, pick, inputs, took, Err(error.to_string()), primary);
                }
                Err(error)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one record")]
    fn observe(
        &self,
        route: &Route,
        call: &Call,
        pick: &Pick,
        inputs: &Arc<Vec<Tensor>>,
        latency: Duration,
        outcome: Result<Arc<Vec<Tensor>>, String>,
        primary: Option<Primary>,
    ) {
        self.recorder.record(Observation {
            request_id: call.request_id.clone(),
            deployment: call.deployment.clone(),
            model: route.table.model.clone(),
            version: pick.version.clone(),
            variant: pick.variant,
            at_unix_ms: now_unix_ms(),
            latency,
            rows: inputs.first().map_or(0, Tensor::rows),
            inputs: Arc::clone(inputs),
            outcome,
            primary,
            prediction_output: route.table.prediction_output.clone(),
        });
    }

    fn copy_to_shadows(
        &self,
        route: &Arc<Route>,
        call: &Call,
        answered: &Pick,
        inputs: &Arc<Vec<Tensor>>,
        outputs: &Arc<Vec<Tensor>>,
    ) {
        if route.table.shadows.is_empty() || answered.variant == Variant::Pinned {
            return;
        }
        let Some(version) = route.versions.get(&answered.version) else { return };
        for target in shadows_for(&route.table, &version.target, stable_hash(&[&call.request_id])) {
            let Some(pick) = route.shadow(target) else { continue };
            let Ok(permit) = Arc::clone(&self.shadow_permits).try_acquire_owned() else {
                self.metrics.shadow_dropped();
                continue;
            };
            let (this, route, call, inputs) =
                (self.clone(), Arc::clone(route), call.clone(), Arc::clone(inputs));
            // A copy is compared, and nobody waits for it.
            let call = Call { timeout_us: None, ..call };
            let primary = Primary { version: answered.version.clone(), outputs: Arc::clone(outputs) };
            self.shadow_tasks.spawn(async move {
                // Its failures are in its record.
                let outcome = this.run(&route, &call, &pick, &inputs, Some(primary.clone())).await;
                if let Err(error @ Error::InvalidInput { .. }) = outcome {
                    let error = Err(error.to_string());
                    this.observe(&route, &call, &pick, &inputs, Duration::ZERO, error, Some(primary));
                }
                drop(permit);
            });
        }
    }
}

/// How long to wait, and what to say afterwards: the client's own limit, or ours.
fn patience(timeout_us: Option<u64>) -> (Duration, Error) {
    let ours = Duration::from_millis(ANSWER_TIMEOUT_MS);
    match timeout_us {
        Some(timeout_us) if Duration::from_micros(timeout_us) < ours => {
            (Duration::from_micros(timeout_us), Error::Expired { timeout_us })
        }
        _ => (ours, Error::TimedOut { limit_ms: ANSWER_TIMEOUT_MS }),
    }
}

/// The `timeout` parameter of a request: microseconds; 0 is the default.
///
/// # Errors
/// It is not a whole number.
pub(crate) fn timeout_us(given: Option<Option<u64>>) -> Result<Option<u64>, Failure> {
    match given {
        None => Ok(None),
        Some(Some(timeout_us)) => Ok(Some(timeout_us).filter(|timeout_us| *timeout_us > 0)),
        Some(None) => {
            Err(Failure::invalid("the parameter 'timeout' expects a whole number of microseconds".to_owned()))
        }
    }
}

/// Ends the trace of a promotion: the decision's span is the parent.
fn announce_first(route: &Route, pick: &Pick) {
    let table = &route.table;
    let span = tracing::info_span!(
        parent: None,
        "serving.first_prediction",
        deployment = table.deployment,
        version = pick.version,
        revision = table.revision,
        since_decision_ms = now_unix_ms().saturating_sub(table.decided_at_unix_ms),
    );
    slipway_telemetry::set_parent(&span, table.traceparent.as_deref());
    let _entered = span.enter();
    tracing::info!("first prediction under a new traffic table");
}
