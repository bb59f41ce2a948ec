//! One prediction: draw a version, run it, stand in where it fails, leave a record, copy to shadows.

mod ensemble;
mod fallback;
pub(crate) mod missed;
mod shadows;
mod steps;
pub(crate) mod traces;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipway_inference::{Inference, Origin, Priority, Request, Signature, Tensor};
use slipway_service_kit::clock::now_unix_ms;
use slipway_telemetry::spans::Collected;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use self::waiting::{loaded, queued};
use crate::failure::{Failure, Kind};
use crate::metrics::{Fallback, Outcome, ServingMetrics};
use crate::models::ensemble::MAX_DEPTH;
use crate::models::routing::{Pick, Route, Routing, Source};
use crate::models::{Absent, Described, Work};
use crate::predict::missed::Missed;
use crate::predict::traces;
use crate::records::{Observation, Primary, Recorder, non_finite};
use crate::stats::Run;

/// Copies that run at the same time; more are dropped, so that shadows never take the machine from clients.
const MAX_SHADOWS: usize = 64;
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
                pick.meters.succeeded(pick.variant, &run, non_finite::of(&outputs));
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
}

/// What a record and the log say of a failure. A runtime's message may repeat values, also those that are redacted.
fn told(source: &Source, missed: &Missed) -> String {
    if source.policy.redact.is_empty() {
        return missed.to_string();
    }
    "it failed; the message may hold what is redacted and is left out".to_owned()
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
