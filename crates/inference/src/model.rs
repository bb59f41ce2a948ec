//! A loaded model: instances on threads of their own behind one queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::queue::Queue;
use crate::session::Session;
use crate::{Environment, Error, Signature, Tensor};

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Sessions, each with its own thread; requests run in parallel on them.
    pub instances: usize,
    /// Threads that one run of the model may use.
    pub intra_threads: usize,
    /// Requests that may wait; one more is [`Error::Overloaded`].
    pub queue_limit: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { instances: 1, intra_threads: 1, queue_limit: 1024 }
    }
}

/// An answer, and where its time went.
#[derive(Debug, Clone)]
pub struct Inference {
    /// Every output of the model, in its order.
    pub outputs: Vec<Tensor>,
    /// Waiting for an instance.
    pub queued: Duration,
    /// Copying the inputs into ONNX Runtime.
    pub prepared: Duration,
    /// In the model.
    pub computed: Duration,
    /// Copying the outputs out of ONNX Runtime.
    pub collected: Duration,
}

/// A model that is warm. Dropping it lets what is queued end and frees the sessions.
pub struct Model {
    signature: Signature,
    options: LoadOptions,
    queue: Arc<Queue<Job>>,
}

struct Job {
    inputs: Arc<Vec<Tensor>>,
    queued_at: Instant,
    answer: oneshot::Sender<Result<Inference, Error>>,
}

impl Model {
    /// Reads an ONNX file (external data beside it), and warms it up. It blocks: call it from a blocking thread.
    ///
    /// # Errors
    /// [`Error::Load`] with the reason.
    pub fn load(environment: &Environment, path: &Path, options: LoadOptions) -> Result<Self, Error> {
        let queue = Arc::new(Queue::new(options.queue_limit));
        let mut signature = None;
        // Until it is whole, leaving early must end the threads that are there already.
        let guard = CloseOnDrop(Some(Arc::clone(&queue)));
        for instance in 0..options.instances.max(1) {
            let session = Session::open(environment, path, options.intra_threads.max(1))?;
            signature.get_or_insert_with(|| session.signature.clone());
            let jobs = Arc::clone(&queue);
            std::thread::Builder::new()
                .name(format!("model-{instance}"))
                .spawn(move || work(session, &jobs))
                .map_err(|error| Error::Load(format!("no thread for the model: {error}")))?;
        }
        guard.disarm();
        let signature = signature.ok_or_else(|| Error::Load("the model has no instance".to_owned()))?;
        Ok(Self { signature, options, queue })
    }

    /// What it takes and gives.
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// How it is run.
    pub const fn options(&self) -> LoadOptions {
        self.options
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Checks the inputs and runs the model on them.
    ///
    /// A caller that goes away before its turn costs no run.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Overloaded`] or [`Error::Runtime`].
    pub async fn infer(&self, inputs: Arc<Vec<Tensor>>) -> Result<Inference, Error> {
        self.signature.check(&inputs)?;
        let (answer, answered) = oneshot::channel();
        let job = Job { inputs, queued_at: Instant::now(), answer };
        self.queue.push(job).map_err(|_job| Error::Overloaded { limit: self.queue.limit() })?;
        answered.await.unwrap_or_else(|_gone| Err(Error::Runtime("its thread has died".to_owned())))
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("signature", &self.signature).finish_non_exhaustive()
    }
}

struct CloseOnDrop(Option<Arc<Queue<Job>>>);

impl CloseOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.close();
        }
    }
}

fn work(mut session: Session, jobs: &Queue<Job>) {
    while let Some(job) = jobs.pop() {
        if job.answer.is_closed() {
            continue;
        }
        let started = Instant::now();
        // A panic must cost one answer, not the thread that everyone waits for.
        let ran = catch_unwind(AssertUnwindSafe(|| session.run(&job.inputs)))
            .unwrap_or_else(|_panic| Err(Error::Runtime("it panicked".to_owned())));
        let inference = ran.map(|ran| Inference {
            outputs: ran.outputs,
            queued: started - job.queued_at,
            prepared: ran.prepared,
            computed: ran.computed,
            collected: ran.collected,
        });
        // The caller may have gone meanwhile.
        let _ = job.answer.send(inference);
    }
}
