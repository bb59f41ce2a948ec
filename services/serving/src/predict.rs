//! One prediction: draw a version, run it, stand in where it fails, leave a record, copy to shadows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipway_api::predictions::Variant;
use slipway_domain::traffic::{Draw, shadows_for, stable_hash};
use slipway_inference::{Error, Inference, Model, Priority, Request, Signature, Tensor};
use slipway_service_kit::clock::now_unix_ms;
use slipway_telemetry::spans::Collected;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::failure::Failure;
use crate::metrics::{Fallback, Outcome, ServingMetrics};
use crate::records::{Observation, Primary, Recorder};
use crate::routing::{Pick, Route, Routing, Source};
use crate::stats::Run;
use crate::traces;

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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'call> {
    /// A version by number, where the client named one.
    pub version: Option<&'call str>,
    /// The client's id of the request.
    pub request_id: &'call str,
    /// How long the client waits for the answer; a request that has not run by then does not run.
    pub timeout_us: Option<u64>,
    /// Whether it goes before others that wait.
    pub priority: Priority,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Version that gave it.
    pub source: Arc<Source>,
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

    /// Refuses a request before it is read, where it could only be refused: under overload, reading would take the time of answers.
    ///
    /// # Errors
    /// The version that would answer has no room for it.
    pub(crate) fn admit(&self, route: &Route, version: Option<&str>) -> Result<(), Failure> {
        let pick = match version {
            Some(version) => route.pinned(version)?,
            // With candidates it is not known yet who answers.
            None if route.table.candidates.is_empty() => route.representative()?,
            None => return Ok(()),
        };
        pick.served.model.admit().map_err(|error| {
            pick.stats.failed(Duration::ZERO);
            pick.meters.failed(pick.variant, Outcome::Overloaded);
            error.into()
        })
    }

    /// Answers one request. `key` looks up a sticky key by its header's name; `inputs` are read once the version is known.
    ///
    /// # Errors
    /// Unknown or unready version, inputs that do not fit, a full queue, a model that fails.
    pub(crate) async fn predict(
        &self,
        route: &Arc<Route>,
        call: &Call<'_>,
        key: impl Fn(&str) -> Option<String>,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>, Failure>,
    ) -> Result<Answer, Failure> {
        let pick = match call.version {
            Some(version) => route.pinned(version)?,
            None => {
                let sticky = route.table.sticky_key.as_ref().and_then(|sticky| key(&sticky.header));
                let uniform = if route.table.candidates.is_empty() { 0.0 } else { rand::random::<f64>() };
                route.pick(sticky.as_deref().map_or(Draw::Uniform(uniform), Draw::Sticky))?
            }
        };
        if pick.fell_back {
            self.metrics.fallback(&route.table.deployment, Fallback::NotReady);
        }
        let inputs = Arc::new(inputs(pick.served.model.signature())?);
        let (pick, outputs) = match self.run(call, &pick, &inputs, None).await {
            Ok(outputs) => (pick, outputs),
            Err(error) => self.stand_in(route, call, pick, &inputs, error).await?,
        };
        if route.is_first(&pick.source.version) {
            announce_first(route, &pick);
        }
        self.copy_to_shadows(route, call, &pick, &inputs, &outputs);
        let rows = inputs.first().map_or(0, Tensor::rows);
        Ok(Answer { source: pick.source, outputs, rows })
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
        call: &Call<'_>,
        failed: Pick,
        inputs: &Arc<Vec<Tensor>>,
        error: Error,
    ) -> Result<(Pick, Arc<Vec<Tensor>>), Failure> {
        // Nobody waits for the answer any more.
        let wanted = !matches!(error, Error::Expired { .. });
        let stable = (wanted && failed.variant == Variant::Candidate)
            .then(|| route.stable(&failed.source.version))
            .flatten();
        let Some(stable) = stable else { return Err(error.into()) };
        let outputs = self.run(call, &stable, inputs, None).await?;
        self.metrics.fallback(&route.table.deployment, Fallback::Failed);
        if matches!(error, Error::InvalidInput { .. }) {
            // What the stable version takes is a fair request; that the candidate refuses it speaks against the candidate.
            self.observe(call.request_id, &failed, inputs, Duration::ZERO, Err(error.to_string()), None);
        }
        Ok((stable, outputs))
    }

    /// Runs one version, counts it and leaves its record.
    async fn run(
        &self,
        call: &Call<'_>,
        pick: &Pick,
        inputs: &Arc<Vec<Tensor>>,
        primary: Option<Primary>,
    ) -> Result<Arc<Vec<Tensor>>, Error> {
        let started = Instant::now();
        let collected = Collected::current();
        let origin = collected.as_ref().map(traces::origin);
        let request = Request { inputs: Arc::clone(inputs), deadline: None, priority: call.priority, origin };
        let result = match pick.served.model.infer_at_once(&request) {
            Some(result) => result,
            None => queued(&pick.served.model, request, call.timeout_us, started).await,
        };
        let took = started.elapsed();
        match result {
            Ok(Inference {
                outputs,
                queued,
                prepared,
                computed,
                collected: taken_out,
                batch_rows,
                leads,
                origins,
            }) => {
                let outputs = Arc::new(outputs);
                let rows = inputs.first().map_or(0, Tensor::rows);
                let run_rows = leads.then_some(batch_rows);
                let run =
                    Run { total: took, queued, prepared, computed, collected: taken_out, rows, run_rows };
                if let Some(request) = &collected {
                    traces::record(request, pick, &run, batch_rows, &origins);
                }
                pick.stats.succeeded(&run, now_unix_ms());
                pick.meters.succeeded(pick.variant, &run);
                self.observe(call.request_id, pick, inputs, took, Ok(Arc::clone(&outputs)), primary);
                Ok(outputs)
            }
            Err(error) => {
                pick.stats.failed(took);
                pick.meters.failed(pick.variant, outcome(&error));
                // The client's mistakes and our load say nothing about the version.
                if matches!(error, Error::Runtime(_) | Error::TimedOut { .. }) {
                    let Source { deployment, version, .. } = &*pick.source;
                    tracing::warn!(deployment, version, %error, "a model failed");
                    self.observe(call.request_id, pick, inputs, took, Err(error.to_string()), primary);
                }
                Err(error)
            }
        }
    }

    fn observe(
        &self,
        request_id: &str,
        pick: &Pick,
        inputs: &Arc<Vec<Tensor>>,
        latency: Duration,
        outcome: Result<Arc<Vec<Tensor>>, String>,
        primary: Option<Primary>,
    ) {
        if !pick.source.policy.takes(request_id) {
            return;
        }
        self.recorder.record(Observation {
            request_id: request_id.to_owned(),
            source: Arc::clone(&pick.source),
            variant: pick.variant,
            at_unix_ms: now_unix_ms(),
            latency,
            rows: inputs.first().map_or(0, Tensor::rows),
            inputs: Arc::clone(inputs),
            outcome,
            primary,
        });
    }

    fn copy_to_shadows(
        &self,
        route: &Arc<Route>,
        call: &Call<'_>,
        answered: &Pick,
        inputs: &Arc<Vec<Tensor>>,
        outputs: &Arc<Vec<Tensor>>,
    ) {
        if route.table.shadows.is_empty() || answered.variant == Variant::Pinned {
            return;
        }
        let Some(version) = route.versions.get(&answered.source.version) else { return };
        for target in shadows_for(&route.table, &version.target, stable_hash(&[call.request_id])) {
            let Some(pick) = route.shadow(target) else { continue };
            // Copies go first when there is too much to do: none joins a queue that clients wait in.
            let permit = Arc::clone(&self.shadow_permits).try_acquire_owned();
            let (Ok(permit), true) = (permit, pick.served.model.waiting() < MAX_SHADOWS) else {
                self.metrics.shadow_dropped();
                continue;
            };
            let (this, inputs, request_id) = (self.clone(), Arc::clone(inputs), call.request_id.to_owned());
            let primary = Primary { source: Arc::clone(&answered.source), outputs: Arc::clone(outputs) };
            self.shadow_tasks.spawn(async move {
                // A copy is compared, and nobody waits for it.
                let call = Call {
                    version: None,
                    request_id: &request_id,
                    timeout_us: None,
                    priority: Priority::Low,
                };
                // Its failures are in its record.
                let outcome = this.run(&call, &pick, &inputs, Some(primary.clone())).await;
                if let Err(error @ Error::InvalidInput { .. }) = outcome {
                    let error = Err(error.to_string());
                    this.observe(&request_id, &pick, &inputs, Duration::ZERO, error, Some(primary));
                }
                drop(permit);
            });
        }
    }
}

/// Waits for the model, as long as the client does.
async fn queued(
    model: &Model,
    request: Request,
    timeout_us: Option<u64>,
    started: Instant,
) -> Result<Inference, Error> {
    let (limit, late) = patience(timeout_us);
    let request = Request { deadline: started.checked_add(limit), ..request };
    match tokio::time::timeout(limit, model.infer_queued(request)).await {
        Ok(Err(Error::Expired { .. })) | Err(_) => Err(late),
        Ok(result) => result,
    }
}

const fn outcome(error: &Error) -> Outcome {
    match error {
        Error::InvalidInput { .. } => Outcome::Rejected,
        Error::Overloaded { .. } => Outcome::Overloaded,
        Error::Expired { .. } => Outcome::Expired,
        _ => Outcome::Failure,
    }
}

/// The `priority` parameter of a request: 1 goes first, then 2, which is the default (0), then all others.
pub(crate) const fn priority(given: Option<u64>) -> Priority {
    match given {
        Some(1) => Priority::High,
        None | Some(0 | 2) => Priority::Normal,
        Some(_) => Priority::Low,
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
        version = pick.source.version,
        revision = table.revision,
        since_decision_ms = now_unix_ms().saturating_sub(table.decided_at_unix_ms),
    );
    slipway_telemetry::set_parent(&span, table.traceparent.as_deref());
    let _entered = span.enter();
    tracing::info!("first prediction under a new traffic table");
}
