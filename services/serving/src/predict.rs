//! One prediction: draw a version, run it, stand in where it fails, leave a record, copy to shadows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use slipway_api::predictions::Variant;
use slipway_domain::ensemble::Definition;
use slipway_domain::traffic::{shadows_for, stable_hash};
use slipway_inference::{Error, Inference, Model, Origin, Priority, Request, Signature, Tensor};
use slipway_service_kit::clock::now_unix_ms;
use slipway_telemetry::spans::Collected;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::ensemble::{self, MAX_DEPTH};
use crate::failure::{Failure, Kind};
use crate::metrics::{Fallback, Outcome, ServingMetrics};
use crate::missed::Missed;
use crate::models::{Absent, Described, Served, Work};
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

/// How a request came: from a client, or as a step of an ensemble.
#[derive(Clone, Copy)]
struct Way<'call> {
    /// Looks up a sticky key by its header's name.
    key: &'call (dyn Fn(&str) -> Option<String> + Sync),
    /// Ensembles above it.
    depth: usize,
}

impl Way<'_> {
    /// The way of a request without a client.
    const fn keyless() -> Self {
        Self { key: &|_header| None, depth: 0 }
    }

    /// The way of the steps of an ensemble.
    fn deeper(self) -> Result<Self, Missed> {
        if self.depth >= MAX_DEPTH {
            return Err(Failure::new(Kind::Internal, format!("over {MAX_DEPTH} ensembles deep")).into());
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
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
    /// What is known of the version.
    pub described: Arc<Described>,
}

/// The id of a request: the first of the client's that can be used, or a new one.
pub(crate) fn request_id(given: &[Option<&str>]) -> String {
    let usable =
        |id: &&str| !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && !id.contains(char::is_control);
    given.iter().flatten().copied().find(usable).map_or_else(new_request_id, str::to_owned)
}

/// An id that no other request has, and that sorts by time (UUIDv7, RFC 9562). The generator is this thread's: asking the system for
/// every request would cost more than the rest of the id.
fn new_request_id() -> String {
    uuid::Builder::from_unix_timestamp_millis(now_unix_ms(), &rand::random()).into_uuid().to_string()
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

    /// Answers one request. `key` looks up a sticky key by its header's name; `inputs` are read once the version is known.
    ///
    /// # Errors
    /// Unknown or unready version, inputs that do not fit, a full queue, a model that fails.
    pub(crate) async fn predict(
        &self,
        route: &Arc<Route>,
        call: &Call<'_>,
        key: impl Fn(&str) -> Option<String> + Sync,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>, Failure>,
    ) -> Result<Answer, Failure> {
        let way = Way { key: &key, depth: 0 };
        self.answer(route, call, way, inputs).await.map_err(|missed| missed.failure)
    }

    async fn answer(
        &self,
        route: &Arc<Route>,
        call: &Call<'_>,
        way: Way<'_>,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>, Failure>,
    ) -> Result<Answer, Missed> {
        route.answers()?;
        let pick = match call.version {
            Some(version) => route.pinned(version)?,
            None => route.draw(way.key)?,
        };
        if pick.fell_back {
            self.metrics.fallback(&route.table.deployment, Fallback::NotReady);
        }
        let inputs = Arc::new(inputs(&pick.described.signature)?);
        let (pick, outputs) = match self.run(call, way, &pick, &inputs, None).await {
            Ok(outputs) => (pick, outputs),
            Err(missed) => self.stand_in(route, call, way, pick, &inputs, missed).await?,
        };
        if route.is_first(&pick.source.version) {
            announce_first(route, &pick);
        }
        self.copy_to_shadows(route, call, &pick, &inputs, &outputs);
        let rows = inputs.first().map_or(0, Tensor::rows);
        Ok(Answer { source: pick.source, outputs, rows, described: pick.described })
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

    /// Runs one version, counts it and leaves its record.
    async fn run(
        &self,
        call: &Call<'_>,
        way: Way<'_>,
        pick: &Pick,
        inputs: &Arc<Vec<Tensor>>,
        primary: Option<Primary>,
    ) -> Result<Arc<Vec<Tensor>>, Missed> {
        let started = Instant::now();
        let collected = Collected::current();
        let origin = collected.as_ref().map(traces::origin);
        let result = self.infer(call, way, pick, (inputs, origin), started).await;
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
            Err(missed) => {
                pick.stats.failed(took);
                pick.meters.failed(pick.variant, missed.outcome);
                // The client's mistakes and our load say nothing about the version.
                if missed.outcome == Outcome::Failure {
                    let Source { deployment, version, .. } = &*pick.source;
                    let error = told(&pick.source, &missed);
                    tracing::warn!(deployment, version, error, "a model failed");
                    self.observe(call.request_id, pick, inputs, took, Err(error), primary);
                }
                Err(missed)
            }
        }
    }

    /// Runs a version, which is loaded first where it was unloaded.
    async fn infer(
        &self,
        call: &Call<'_>,
        way: Way<'_>,
        pick: &Pick,
        (inputs, origin): (&Arc<Vec<Tensor>>, Option<Origin>),
        started: Instant,
    ) -> Result<Inference, Missed> {
        let served = match pick.resident.used() {
            Some(served) => served,
            None => loaded(call, pick).await?,
        };
        served.described.check_rows(inputs)?;
        let model = match &served.work {
            Work::Model(model) => model,
            Work::Ensemble(definition) => {
                served.described.signature.check(inputs)?;
                return self.ensemble(call, way, definition, inputs, started).await;
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

    /// Runs the models of an ensemble, each as a request to its deployment, within the time of the whole.
    async fn ensemble(
        &self,
        call: &Call<'_>,
        way: Way<'_>,
        definition: &Definition,
        inputs: &[Tensor],
        started: Instant,
    ) -> Result<Inference, Missed> {
        let (limit, late) = patience(call.timeout_us);
        let way = way.deeper()?;
        let ran = ensemble::run(definition, inputs, |at, inputs| {
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
            non_finite_outputs: 0,
            request_id: request_id.to_owned(),
            source: Arc::clone(&pick.source),
            variant: pick.variant,
            at_unix_ms: now_unix_ms(),
            latency,
            rows: inputs.first().map_or(0, Tensor::rows),
            row_indices: None,
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
            let served = pick.resident.served();
            if served.is_none() {
                // This copy is lost, but not those after it.
                pick.resident.ask();
            }
            let has_room = served.is_some_and(|served| served.waiting() < MAX_SHADOWS);
            let (Ok(permit), true) = (permit, has_room) else {
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
                let outcome = this.run(&call, Way::keyless(), &pick, &inputs, Some(primary.clone())).await;
                if let Err(missed @ Missed { outcome: Outcome::Rejected, .. }) = outcome {
                    let error = Err(told(&pick.source, &missed));
                    this.observe(&request_id, &pick, &inputs, Duration::ZERO, error, Some(primary));
                }
                drop(permit);
            });
        }
    }
}

/// What a record and the log say of a failure. A runtime's message may repeat values, also those that are redacted.
fn told(source: &Source, missed: &Missed) -> String {
    if source.policy.redact.is_empty() {
        return missed.to_string();
    }
    "it failed; the message may hold what is redacted and is left out".to_owned()
}

/// Waits for a version to be loaded, as long as the client does.
async fn loaded(call: &Call<'_>, pick: &Pick) -> Result<Arc<Served>, Missed> {
    let (limit, late) = patience(call.timeout_us);
    let Source { deployment, version, .. } = &*pick.source;
    pick.resident.wait(limit).await.map_err(|absent| match absent {
        Absent::Late(waited) if waited == limit => late.into(),
        Absent::Refused(_) => {
            Missed { outcome: Outcome::Failure, failure: absent.failure(deployment, version) }
        }
        absent => absent.failure(deployment, version).into(),
    })
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
