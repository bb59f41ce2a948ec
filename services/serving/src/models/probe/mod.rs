//! A version is loaded in a child process before it is loaded here.
//!
//! ONNX Runtime is written in C++ and reads what clients upload. A model that makes it crash, fill the memory
//! or never end does so in a child, which costs the version and nothing else. What came of it is kept by the
//! files of the version, the version of ONNX Runtime and the settings of the session, so that a replica that
//! starts again needs no child.
//!
//! Loads of this process are noted on disk while they last: one that ended with the process, in spite of the
//! child, is tried in a child again at the next start, and given up after a few times. Otherwise a supervisor
//! would restart the process for as long as a table names the version.

mod child;
mod job;
mod key;
mod memory;
mod record;
mod spawn;
mod store;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use slipway_inference::{Device, EmptyDimensions, Environment, LoadOptions};
use tokio::sync::Semaphore;

pub use self::child::run_if_asked;
use self::job::Job;
use self::key::Key;
use self::record::{Next, Observed};
pub(super) use self::store::Marker;
use super::cache::Cache;
use super::failure::LoadFailure;
use super::meters::LoadMeters;

/// Children at the same time. A model that does not end takes one of them until its time is over.
const MAX_PARALLEL: usize = 2;
/// Part of the key of what is kept: higher where children look at more than before.
const GENERATION: u32 = 2;
/// Children that inputs without elements may end, before no such inputs are tried.
const MAX_ENDED_BY_EMPTY: usize = 3;

/// How versions are loaded in a child first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeOptions {
    /// Whether they are.
    pub on: bool,
    /// How long a child may take.
    pub timeout: Duration,
    /// Memory that a child may take, in bytes; `None`: what the machine has available.
    pub memory_bytes: Option<u64>,
    /// Whether any version of ONNX Runtime is used.
    pub untested: bool,
}

/// Loads versions in children. Cheap to clone.
#[derive(Clone)]
pub(super) struct Prober {
    cache: Cache,
    options: ProbeOptions,
    library: Library,
    permits: Arc<Semaphore>,
    meters: LoadMeters,
}

/// The library that loads models.
#[derive(Clone)]
struct Library {
    path: PathBuf,
    /// Version, size and time of its file.
    identity: String,
}

impl Prober {
    pub(super) fn new(
        cache: Cache,
        environment: &Environment,
        options: ProbeOptions,
        meters: LoadMeters,
    ) -> Self {
        let path = environment.path().to_owned();
        let file = std::fs::metadata(&path).ok();
        let changed = file.as_ref().and_then(|file| file.modified().ok());
        let size = file.map(|file| file.len());
        let identity = format!("{} {size:?} {changed:?}", environment.version());
        let library = Library { path, identity };
        Self { cache, options, library, permits: Arc::new(Semaphore::new(MAX_PARALLEL)), meters }
    }

    /// The key of a version: `files` says what its files are.
    pub(super) fn key(&self, files: &str, options: &LoadOptions) -> Key {
        let session = (options.device, options.fallback, options.arena, options.intra_threads);
        let text = format!("{GENERATION}\n{files}\n{}\n{session:?}", self.library.identity);
        Key(hex::encode(Sha256::digest(text)))
    }

    /// Whether a version may be loaded here: by what is known of it, or else by loading it in a child. Gives
    /// the dimensions that its requests may make empty.
    ///
    /// # Errors
    /// It crashed, was refused, or took too much or too long; or there is no child.
    pub(super) async fn admit(
        &self,
        key: &Key,
        path: &Path,
        options: &LoadOptions,
        files_bytes: u64,
    ) -> Result<Vec<EmptyDimensions>, LoadFailure> {
        if !self.options.on {
            return Ok(Vec::new());
        }
        let (cache, key) = (self.cache.clone(), key.clone());
        let known = {
            let (cache, key) = (cache.clone(), key.clone());
            blocking(move || cache.probe_record(&key)).await?
        };
        match known.next() {
            Next::Load(empty) => {
                self.meters.probed("known");
                return Ok(empty);
            }
            Next::Refuse(reason) => {
                self.meters.probed("known");
                return Err(LoadFailure::lasting(reason));
            }
            Next::Probe => {}
        }
        let _permit =
            self.permits.acquire().await.map_err(|_closed| LoadFailure::passing("shutting down"))?;
        let job = self.job(path, options, files_bytes);
        let observed = self.observe(job).await?;
        self.meters.probed(observed.name());
        if !matches!(observed, Observed::Passed(_)) {
            tracing::warn!(model = %path.display(), ?observed, "version failed to load in a child process");
        }
        let (record, outcome) = known.after(&observed);
        if record != known
            && let Err(error) = blocking(move || cache.keep_probe_record(&key, &record)).await?
        {
            tracing::warn!(%error, "verdict of a child process not stored");
        }
        outcome.map(|()| match observed {
            Observed::Passed(empty) => empty,
            _ => Vec::new(),
        })
    }

    /// Loads a version in children, until one is not ended by inputs without elements.
    async fn observe(&self, mut job: Job) -> Result<Observed, LoadFailure> {
        loop {
            let (asked, timeout) = (job.clone(), self.options.timeout);
            let observed = blocking(move || spawn::observe(&asked, timeout)).await?.map_err(|error| {
                LoadFailure::passing(format!("the child process that loads it first does not start: {error}"))
            })?;
            let Observed::EndedByEmpty(place) = observed else { return Ok(observed) };
            if job.skip_all {
                return Ok(observed);
            }
            job.skipped.insert(place);
            job.skip_all = job.skipped.len() >= MAX_ENDED_BY_EMPTY;
        }
    }

    /// Notes that a version is being loaded by this process, until the marker is dropped. A disk that takes
    /// no note keeps no version from being loaded.
    pub(super) fn begin(&self, key: &Key) -> Option<Marker> {
        if !self.options.on {
            return None;
        }
        self.cache
            .mark_load(key)
            .inspect_err(|error| tracing::warn!(%error, "load of a version not recorded"))
            .ok()
    }

    fn job(&self, path: &Path, options: &LoadOptions, files_bytes: u64) -> Job {
        // What a GPU maps has nothing to do with the memory that it takes.
        let memory_bytes = (options.device == Device::Cpu).then(|| {
            let available = self.options.memory_bytes.or_else(memory::available_bytes);
            available.map(|bytes| bytes.saturating_add(files_bytes))
        });
        Job {
            library: self.library.path.clone(),
            untested: self.options.untested,
            model: path.to_owned(),
            device: options.device.name().to_owned(),
            fallback: options.fallback,
            arena: options.arena,
            intra_threads: options.intra_threads,
            memory_bytes: memory_bytes.flatten(),
            timeout_s: self.options.timeout.as_secs().max(1),
            parent: std::process::id(),
            skipped: BTreeSet::new(),
            skip_all: false,
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LoadFailure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| LoadFailure::passing(format!("loading it was interrupted: {error}")))
}
