//! A loaded model, as its callers see it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::engine::Engine;
use crate::{
    AuditCounts, Checked, Classes, Device, DropCounts, EmptyDimensions, Environment, Error, Inference,
    Joining, LoadOptions, Request, Signature, empty, profile, session,
};

/// A model that is warm. Dropping it lets what is queued end and frees the session.
pub struct Model {
    engine: Arc<Engine>,
    classes: Classes,
    warm_up_failure: Option<String>,
    empty_candidates: Vec<EmptyDimensions>,
}

impl Model {
    /// Reads an ONNX file (external data next to it), and warms it up. It blocks: call it from a blocking
    /// thread.
    ///
    /// # Errors
    /// [`Error::Load`] with the reason.
    pub fn load(environment: &Environment, path: &Path, options: LoadOptions) -> Result<Self, Error> {
        Self::load_checked(environment, &Checked::read(path)?, options)
    }

    /// The same, of a file that was looked at before.
    ///
    /// # Errors
    /// [`Error::Load`] with the reason.
    pub fn load_checked(
        environment: &Environment,
        checked: &Checked,
        options: LoadOptions,
    ) -> Result<Self, Error> {
        let (runner, device) =
            session::open(environment, checked.path(), checked.changed()?.as_deref(), &options)?;
        let signature = Signature::of(runner.session())?;
        let empty_candidates = empty::candidates(runner.session(), &signature);
        let joining = Joining::decide(checked.model(), &signature, &options.batching);
        let mut profile = profile::measure(&runner, &signature);
        let warm_up_failure = profile.refused.take();
        tracing::debug!(run_us = profile.run.map(|run| run.as_micros()), ?joining, "model warmed up");
        let engine = Engine::new(runner, signature, options, device, profile, joining);
        Ok(Self { engine: Arc::new(engine), classes: checked.classes(), warm_up_failure, empty_candidates })
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.engine.signature
    }

    /// Names of the classes along the last dimension of outputs, where the model says them.
    pub const fn classes(&self) -> &Classes {
        &self.classes
    }

    /// What the model said when it was warmed up, where it took none of the inputs tried.
    pub fn warm_up_failure(&self) -> Option<&str> {
        self.warm_up_failure.as_deref()
    }

    /// Dimensions that a request could make empty, in an order that depends on the model alone.
    pub fn empty_candidates(&self) -> &[EmptyDimensions] {
        &self.empty_candidates
    }

    /// Runs it on inputs in which these dimensions are empty. Whatever the model says of them is ignored:
    /// what counts is that the process goes on, which it need not.
    pub fn try_empty(&self, empty: &EmptyDimensions) {
        let _ = self.engine.run(&empty::inputs(&self.engine.signature, empty));
    }

    /// How it is run.
    pub fn options(&self) -> &LoadOptions {
        &self.engine.options
    }

    /// Where it runs.
    pub fn device(&self) -> Device {
        self.engine.device
    }

    /// Whether requests that wait are joined.
    pub fn is_batchable(&self) -> bool {
        self.engine.is_batchable()
    }

    /// Whether requests that wait are joined, and why, or why not.
    pub fn joining(&self) -> Joining {
        self.engine.joins.joining()
    }

    /// Audits of joined runs since it was loaded.
    pub fn audits(&self) -> AuditCounts {
        self.engine.joins.audit_counts()
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.engine.waiting()
    }

    /// The error of the next request that would have to wait, if it is known before the request is read. It
    /// counts as refused.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub fn admit(&self) -> Result<(), Error> {
        let limit = self.engine.options.queue_limit;
        if self.engine.waiting() < limit || limit == 0 {
            return Ok(());
        }
        self.engine.counters.rejected.fetch_add(1, Relaxed);
        Err(Error::Overloaded { limit })
    }

    /// Runs now.
    pub fn running(&self) -> usize {
        self.engine.running()
    }

    /// Requests that were not run, since it was loaded.
    pub fn dropped(&self) -> DropCounts {
        let counters = &self.engine.counters;
        DropCounts {
            cancelled: counters.cancelled.load(Relaxed),
            expired: counters.expired.load(Relaxed),
            rejected: counters.rejected.load(Relaxed),
        }
    }

    /// Checks the inputs and runs the model on them: at once and on this thread where that is quick, else on
    /// a thread of its own, with what waits at the time.
    ///
    /// A caller that goes away before its turn costs no run.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Overloaded`], [`Error::Expired`] or [`Error::Runtime`].
    pub async fn infer(&self, request: Request) -> Result<Inference, Error> {
        if let Some(answer) = self.infer_at_once(&request) {
            return answer;
        }
        self.infer_queued(request).await
    }

    /// The rest of [`Model::infer`]: for inputs that [`Model::infer_at_once`] has checked.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::Expired`] or [`Error::Runtime`].
    pub async fn infer_queued(&self, request: Request) -> Result<Inference, Error> {
        let answered = self.engine.submit(request)?;
        answered.await.unwrap_or_else(|_gone| Err(Error::Runtime("its thread ended".to_owned())))
    }

    /// The part of [`Model::infer`] that does not wait; `None` if the request has to be queued.
    pub fn infer_at_once(&self, request: &Request) -> Option<Result<Inference, Error>> {
        let (signature, survived) = (&self.engine.signature, &self.engine.options.empty);
        let checked = signature.check(&request.inputs);
        match checked.and_then(|()| empty::check(signature, survived, &request.inputs)) {
            Ok(()) => self.engine.run_here(request),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.engine.close();
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("signature", self.signature()).finish_non_exhaustive()
    }
}
