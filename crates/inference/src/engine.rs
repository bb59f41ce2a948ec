//! Who runs a model: the caller itself where that is quickest, else threads of the version, which take what
//! waits as one batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::audit::Difference;
use crate::joining::{Joining, State as JoinState};
use crate::memory::GiveBack;
use crate::profile::Profile;
use crate::queue::{Dropped, Job, Waiting};
use crate::raw::{self, Ran, Runner};
use crate::{
    Batching, Device, Error, Inference, LoadOptions, Request, Signature, Tensor, audit, batch, budget,
};

/// A run that is expected to take no longer goes on the caller's own thread: a hop to another thread and back
/// takes as long, and whatever else waits for the caller's thread does not notice.
const DIRECT_LIMIT: Duration = Duration::from_micros(300);
/// Inputs of more bytes are not run on the caller's thread, whatever is expected.
const DIRECT_BYTES: usize = 64 * 1024;
/// A thread that had nothing to do for this long gives the arena's memory back and ends.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// Everything that a version's threads share.
pub(crate) struct Engine {
    runner: Runner,
    pub(crate) signature: Signature,
    pub(crate) options: LoadOptions,
    /// Where it really runs.
    pub(crate) device: Device,
    taken: Option<Vec<Tensor>>,
    /// Whether requests are joined.
    pub(crate) joins: JoinState,
    /// Expected time of a row, in nanoseconds; `u64::MAX` while nothing is known.
    row_ns: AtomicU64,
    running: AtomicUsize,
    waiting: AtomicUsize,
    pub(crate) counters: Counters,
    state: Mutex<State>,
    arrived: Condvar,
    /// After the session.
    _give_back: GiveBack,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// What was dropped, and why.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) cancelled: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) rejected: AtomicU64,
}

enum Next {
    Batch(Vec<Job>),
    /// Nothing came for a while.
    Idle,
    End,
}

impl Engine {
    pub(crate) fn new(
        runner: Runner,
        signature: Signature,
        options: LoadOptions,
        device: Device,
        profile: Profile,
        joining: Joining,
    ) -> Self {
        let run_ns = profile.run.map_or(u64::MAX, nanoseconds);
        let joins = JoinState::new(joining, options.batching.audit_every);
        Self {
            runner,
            signature,
            options,
            device,
            taken: profile.taken,
            joins,
            row_ns: AtomicU64::new(run_ns),
            running: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            counters: Counters::default(),
            state: Mutex::default(),
            arrived: Condvar::new(),
            _give_back: GiveBack,
        }
    }

    pub(crate) fn is_batchable(&self) -> bool {
        self.joins.is_on()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Relaxed)
    }

    /// Runs a request on this thread, where nothing waits, a run is free, and it is expected to be short;
    /// `None` elsewhere.
    pub(crate) fn run_here(&self, request: &Request) -> Option<Result<Inference, Error>> {
        if self.device != Device::Cpu || self.waiting() > 0 || !self.is_short(&request.inputs) {
            return None;
        }
        if self.running.fetch_add(1, Relaxed) >= self.options.parallel_runs() {
            self.running.fetch_sub(1, Relaxed);
            return None;
        }
        let ran = self.run(&request.inputs);
        self.running.fetch_sub(1, Relaxed);
        let rows = request.inputs.first().map_or(1, Tensor::rows);
        Some(ran.map(|ran| {
            self.learn(ran.computed, rows);
            inference(ran, Duration::ZERO, rows, true)
        }))
    }

    fn is_short(&self, inputs: &[Tensor]) -> bool {
        let bytes: usize = inputs.iter().map(Tensor::size_bytes).sum();
        let rows = inputs.first().map_or(1, Tensor::rows).max(1);
        bytes <= DIRECT_BYTES
            && u128::from(self.row_ns.load(Relaxed)) * u128::from(rows) <= DIRECT_LIMIT.as_nanos()
    }

    /// Remembers what a row takes, as a moving average.
    fn learn(&self, took: Duration, rows: u64) {
        let row = nanoseconds(took) / rows.max(1);
        let known = self.row_ns.load(Relaxed);
        let next = if known == u64::MAX { row } else { known - known / 8 + row / 8 };
        self.row_ns.store(next, Relaxed);
    }

    /// Queues a request; a thread of the version takes it.
    pub(crate) fn submit(
        self: &Arc<Self>,
        request: Request,
    ) -> Result<oneshot::Receiver<Result<Inference, Error>>, Error> {
        let (answer, answered) = oneshot::channel();
        // One that overrides a default is not joined: the others of the batch may have left it out, or have
        // another value.
        let is_plain = request.inputs.len() == self.signature.inputs.len();
        let rows = if is_plain && self.is_batchable() { batch::rows(&request.inputs) } else { None };
        let job = Job {
            inputs: request.inputs,
            rows,
            queued_at: Instant::now(),
            deadline: request.deadline,
            origin: request.origin,
            answer,
        };
        let limit = self.options.queue_limit;
        let mut state = self.lock();
        if state.closed || state.waiting.len() >= limit {
            drop(state);
            self.counters.rejected.fetch_add(1, Relaxed);
            return Err(Error::Overloaded { limit });
        }
        if state.idle == 0 && state.threads < self.options.parallel_runs() {
            self.add_thread(&mut state)?;
        }
        state.waiting.push(job, request.priority);
        self.waiting.store(state.waiting.len(), Relaxed);
        drop(state);
        self.arrived.notify_one();
        Ok(answered)
    }

    fn add_thread(self: &Arc<Self>, state: &mut State) -> Result<(), Error> {
        let engine = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("model".to_owned()).spawn(move || engine.work());
        match spawned {
            Ok(_) => state.threads += 1,
            // Those that there are take it.
            Err(error) if state.threads > 0 => {
                tracing::warn!(%error, "cannot start a further thread for a model");
            }
            Err(error) => return Err(Error::Runtime(format!("no thread for it: {error}"))),
        }
        Ok(())
    }

    /// Takes no more; what waits still runs.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn work(&self) {
        let mut used = false;
        loop {
            match self.next() {
                Next::Batch(batch) => {
                    self.running.fetch_add(1, Relaxed);
                    self.answer(batch);
                    self.running.fetch_sub(1, Relaxed);
                    used = true;
                }
                Next::Idle => {
                    if std::mem::take(&mut used) {
                        self.shrink();
                        continue;
                    }
                    let mut state = self.lock();
                    // One that was queued meanwhile counts on this thread.
                    if state.waiting.len() == 0 {
                        state.threads -= 1;
                        return;
                    }
                }
                Next::End => return,
            }
        }
    }

    /// Waits for work. While all cores are busy, more of it gathers.
    fn next(&self) -> Next {
        let mut state = self.lock();
        loop {
            while state.waiting.len() == 0 {
                if state.closed {
                    return Next::End;
                }
                state.idle += 1;
                let (guard, waited) =
                    self.arrived.wait_timeout(state, IDLE_LIMIT).unwrap_or_else(PoisonError::into_inner);
                state = guard;
                state.idle -= 1;
                if waited.timed_out() && state.waiting.len() == 0 {
                    return Next::Idle;
                }
            }
            let batching = self.is_batchable().then_some(&self.options.batching);
            if let Some(left) = batching.and_then(|batching| delay(batching, &state.waiting)) {
                state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let mut dropped = Dropped::default();
            let batch = state.waiting.take(batching, Instant::now(), &mut dropped);
            self.waiting.store(state.waiting.len(), Relaxed);
            self.counters.cancelled.fetch_add(dropped.cancelled, Relaxed);
            self.counters.expired.fetch_add(dropped.expired, Relaxed);
            if !batch.is_empty() {
                return Next::Batch(batch);
            }
        }
    }

    fn answer(&self, jobs: Vec<Job>) {
        let _permit = (self.device == Device::Cpu).then(budget::acquire);
        let started = Instant::now();
        if jobs.len() > 1 {
            match self.run_joined(&jobs).and_then(|(ran, parts)| self.audited(&jobs, ran, parts)) {
                Ok((ran, parts)) => return deliver(jobs, &ran, parts, started),
                // One of them may be to blame: each alone, so that the others are answered.
                Err(error) => {
                    tracing::debug!(%error, requests = jobs.len(), "batch failed; its requests run alone");
                }
            }
        }
        for job in jobs {
            let started = Instant::now();
            let rows = job.inputs.first().map_or(1, Tensor::rows);
            let ran = self.run(&job.inputs);
            if let Ok(ran) = &ran {
                self.learn(ran.computed, rows);
            }
            // The caller may have gone meanwhile.
            let _ = job.answer.send(ran.map(|ran| inference(ran, started - job.queued_at, rows, true)));
        }
    }

    fn run_joined(&self, jobs: &[Job]) -> Result<(Ran, Vec<Vec<Tensor>>), Error> {
        let begun = Instant::now();
        let mut inputs = Vec::with_capacity(self.signature.inputs.len());
        for spec in &self.signature.inputs {
            let parts: Option<Vec<&Tensor>> =
                jobs.iter().map(|job| job.inputs.iter().find(|tensor| tensor.name == spec.name)).collect();
            let joined = parts.and_then(|parts| batch::joined(&parts));
            inputs.push(joined.ok_or_else(|| Error::Runtime("inputs that do not join".to_owned()))?);
        }
        let joining = begun.elapsed();
        let mut ran = self.run(&inputs)?;
        ran.prepared += joining;
        let rows: Vec<u64> = jobs.iter().map(|job| job.rows.unwrap_or(0)).collect();
        self.learn(ran.computed, rows.iter().sum());
        let splitting = Instant::now();
        let Some(parts) = batch::split(std::mem::take(&mut ran.outputs), &rows) else {
            self.stop_joining(Difference {
                output: String::new(),
                element: 0,
                joined: "other rows than the inputs".to_owned(),
                alone: "one row for each".to_owned(),
                run_rows: rows.iter().sum(),
                request_rows: rows.first().copied().unwrap_or_default(),
            });
            return Err(Error::Runtime("its outputs have other rows than its inputs".to_owned()));
        };
        ran.collected += splitting.elapsed();
        Ok((ran, parts))
    }

    /// Runs requests of a joined run again, alone, where the run is audited. Where an answer differs,
    /// requests are no longer joined, and those of this run are answered by runs of their own.
    fn audited(
        &self,
        jobs: &[Job],
        ran: Ran,
        parts: Vec<Vec<Tensor>>,
    ) -> Result<(Ran, Vec<Vec<Tensor>>), Error> {
        let places = self.joins.audits(jobs.len());
        if places.is_empty() {
            return Ok((ran, parts));
        }
        for (job, joined) in jobs.iter().zip(&parts).skip(places.start).take(places.len()) {
            let alone = self.run(&job.inputs)?;
            if let Some(difference) = audit::compare(joined, &alone.outputs) {
                let run_rows = jobs.iter().map(|job| job.rows.unwrap_or(0)).sum();
                self.stop_joining(Difference { run_rows, request_rows: job.rows.unwrap_or(0), ..difference });
                return Err(Error::Runtime("a request of a joined run gets another answer alone".to_owned()));
            }
        }
        self.joins.agreed();
        Ok((ran, parts))
    }

    fn stop_joining(&self, difference: Difference) {
        tracing::debug!(%difference, "requests of a model are no longer joined");
        self.joins.stop(difference);
    }

    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<Ran, Error> {
        let ordered: Option<Vec<&Tensor>> = self
            .signature
            .inputs
            .iter()
            .enumerate()
            .map(|(at, spec)| {
                let in_place = inputs.get(at).filter(|tensor| tensor.name == spec.name);
                in_place.or_else(|| inputs.iter().find(|tensor| tensor.name == spec.name))
            })
            .collect();
        let mut ordered = ordered.ok_or_else(|| Error::Runtime("an input is missing".to_owned()))?;
        if inputs.len() > ordered.len() {
            let is_optional =
                |tensor: &&Tensor| self.signature.optional.iter().any(|spec| spec.name == tensor.name);
            ordered.extend(inputs.iter().filter(is_optional));
        }
        // A panic must cost one answer, not the thread that everyone waits for.
        catch_unwind(AssertUnwindSafe(|| self.runner.run(&ordered, false)))
            .unwrap_or_else(|_panic| Err(Error::Runtime("it panicked".to_owned())))
    }

    /// Gives back what a burst took. ONNX Runtime shrinks its arena at the end of a run only.
    fn shrink(&self) {
        self.shrink_arena();
        // What requests and answers took next to it.
        raw::trim();
    }

    fn shrink_arena(&self) {
        if let Some(inputs) = self.taken.as_ref().filter(|_| self.options.arena) {
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            if let Err(error) = self.runner.run(&inputs, true) {
                tracing::debug!(%error, "memory of an idle model not released");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole before the lock goes, so the state is whole after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much longer the oldest request waits for others.
fn delay(batching: &Batching, waiting: &Waiting) -> Option<Duration> {
    if batching.delay.is_zero() {
        return None;
    }
    let limit = batching.preferred_rows.iter().max().unwrap_or(&batching.max_rows);
    let (queued_at, rows) = waiting.gathered(*limit as u64)?;
    if rows >= *limit as u64 {
        return None;
    }
    batching.delay.checked_sub(queued_at.elapsed()).filter(|left| !left.is_zero())
}

fn deliver(jobs: Vec<Job>, ran: &Ran, parts: Vec<Vec<Tensor>>, started: Instant) {
    let rows = jobs.iter().map(|job| job.rows.unwrap_or(0)).sum();
    let mut members: Vec<_> = jobs.iter().filter_map(|job| job.origin).collect();
    for (at, (job, outputs)) in jobs.into_iter().zip(parts).enumerate() {
        let part = Ran { outputs, prepared: ran.prepared, computed: ran.computed, collected: ran.collected };
        let answer = inference(part, started - job.queued_at, rows, at == 0);
        let origins = if job.origin.is_some() { std::mem::take(&mut members) } else { Vec::new() };
        // The caller may have gone meanwhile.
        let _ = job.answer.send(Ok(Inference { origins, ..answer }));
    }
}

fn inference(ran: Ran, queued: Duration, batch_rows: u64, leads: bool) -> Inference {
    Inference {
        outputs: ran.outputs,
        queued,
        prepared: ran.prepared,
        computed: ran.computed,
        collected: ran.collected,
        batch_rows,
        leads,
        origins: Vec::new(),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
