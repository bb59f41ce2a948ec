//! Passes over the TrainingJobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::reflector::Store;
use slipway_api::rest::launcher::Job;
use slipway_domain::Invalid;
use slipway_http_server::Problem;
use slipway_kubernetes_client::{Connection, set_finalizers, text};
use slipway_kubernetes_jobs::MANAGED_BY;
use slipway_kubernetes_resources::training_job::{
    Phase, Status, Step, Submitted, TrainingJob, resource_path, status, step,
};
use slipway_runtime::clock;
use tokio::sync::Notify;

use crate::state::State;
use crate::store::jobs;
use crate::{change, manage};

/// Jobs that have not ended are looked at this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// While there are none; objects that change wake the loop.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// What was refused is submitted again after this time: the settings of the launchers may be others.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Why an object could not be followed now; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Launcher(#[from] Problem),
    #[error("the API server: {}", text(.0))]
    Cluster(#[from] kube::Error),
}

/// Follows objects.
#[derive(Debug)]
pub(super) struct Follower {
    state: State,
    cluster: Connection,
    /// Why objects were refused, by UID.
    refused: HashMap<String, Refusal>,
}

#[derive(Debug)]
struct Refusal {
    generation: Option<i64>,
    at: Instant,
    reason: String,
}

impl Follower {
    pub(super) fn new(state: State, cluster: Connection) -> Self {
        Self { state, cluster, refused: HashMap::new() }
    }

    /// Does not return.
    pub(super) async fn run(mut self, stores: &[Store<TrainingJob>], news: &Notify) {
        let mut failing = false;
        loop {
            let open: Vec<Arc<TrainingJob>> =
                stores.iter().flat_map(Store::state).filter(|object| !is_settled(object)).collect();
            match self.pass(&open).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "a TrainingJob cannot be followed now; retrying");
                    }
                }
            }
            let pause = if open.is_empty() { IDLE_INTERVAL } else { INTERVAL };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = news.notified(), if !failing => {}
            }
        }
    }

    /// Follows all of them; the error is the first one.
    async fn pass(&mut self, open: &[Arc<TrainingJob>]) -> Result<(), Error> {
        let uids: Vec<&String> = open.iter().filter_map(|object| object.metadata.uid.as_ref()).collect();
        self.refused.retain(|uid, _| uids.contains(&uid));
        if open.is_empty() {
            return Ok(());
        }
        let mut found = self.jobs_of(open).await?;
        let mut result = Ok(());
        for object in open {
            let job = found.remove(&object.idempotency_key());
            match self.follow(object, job).await {
                // It was changed or deleted in the meantime; the watch tells.
                Err(Error::Cluster(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {}
                followed => result = result.and(followed),
            }
        }
        result
    }

    /// Jobs of these objects by idempotency key, without their attempts.
    async fn jobs_of(&self, objects: &[Arc<TrainingJob>]) -> Result<BTreeMap<String, Job>, Error> {
        let keys: Vec<String> = objects.iter().map(|object| object.idempotency_key()).collect();
        let mut connection = self.state.pool.acquire().await.map_err(Problem::from)?;
        let found = jobs::find_by_keys(&mut connection, &keys).await.map_err(Problem::from)?;
        drop(connection);
        let key_of = |job: &jobs::StoredJob| job.spec.idempotency_key.clone().unwrap_or_default();
        let keys: Vec<String> = found.iter().map(key_of).collect();
        let listed = manage::listed(&self.state, found).await?;
        Ok(keys.into_iter().zip(listed).collect())
    }

    async fn follow(&mut self, object: &TrainingJob, mut job: Option<Job>) -> Result<(), Error> {
        let mut object = object.clone();
        let mut next = step(&object, job.as_ref());
        if next == Step::AddFinalizer {
            object = self.set_finalizer(&object, true).await?;
            next = step(&object, job.as_ref());
        }
        let id = |job: &Option<Job>| manage::job_id(job.as_ref().map_or("", |job| job.id.as_str()));
        let changed = match next {
            Step::Keep | Step::AddFinalizer => None,
            Step::RemoveFinalizer => {
                self.set_finalizer(&object, false).await?;
                return Ok(());
            }
            Step::Submit => self.submit(&object).await?,
            Step::Cancel => Some(manage::cancel(&self.state, id(&job)?).await?),
            Step::Suspend => Some(manage::suspend(&self.state, id(&job)?).await?),
            Step::Resume => Some(manage::resume(&self.state, id(&job)?, None).await?),
        };
        if let Some(changed) = changed {
            job = manage::listed(&self.state, vec![changed]).await?.pop();
        }
        self.write(&object, job).await
    }

    /// The job of an object; `None` where it is refused.
    async fn submit(&mut self, object: &TrainingJob) -> Result<Option<jobs::StoredJob>, Error> {
        let uid = object.uid().to_owned();
        let generation = object.metadata.generation;
        let still =
            |refusal: &Refusal| refusal.generation == generation && refusal.at.elapsed() < REFUSED_FOR;
        if self.refused.get(&uid).is_some_and(still) {
            return Ok(None);
        }
        let submitted = match object.job() {
            Ok(job) => change::submit(&self.state, job.into()).await.map_err(Refused::by_launcher),
            Err(invalid) => Err(Refused::Finally(invalid.to_string())),
        };
        match submitted {
            Ok((job, _created)) => {
                self.refused.remove(&uid);
                Ok(Some(job))
            }
            Err(Refused::Finally(reason)) => {
                self.refused.insert(uid, Refusal { generation, at: Instant::now(), reason });
                Ok(None)
            }
            Err(Refused::ForNow(problem)) => Err(problem.into()),
        }
    }

    /// Writes the status if it is another one.
    async fn write(&self, object: &TrainingJob, job: Option<Job>) -> Result<(), Error> {
        let refusal = self.refused.get(object.uid()).map(|refusal| refusal.reason.as_str());
        let seen = |job: Option<&Job>| -> Status {
            let submitted = match (job, refusal) {
                (Some(job), _) => Submitted::Job(job),
                (None, Some(reason)) => Submitted::Refused(reason),
                (None, None) => Submitted::Nothing,
            };
            status(object, submitted, DateTime::<Utc>::from(clock::now()))
        };
        // Attempts are read only where something else has changed.
        let mut light = seen(job.as_ref());
        light.attempts.clone_from(&object.status.attempts);
        if light == object.status {
            return Ok(());
        }
        let detailed = match job {
            Some(job) => {
                let stored = manage::find(&self.state, manage::job_id(&job.id)?).await?;
                Some(manage::detailed(&self.state, stored).await?)
            }
            None => None,
        };
        let written = TrainingJob { status: seen(detailed.as_ref()), ..object.clone() };
        self.api(object).replace_status(object.name(), &PostParams::default(), &written).await?;
        Ok(())
    }

    /// Adds or removes the finalizer of this version of the object.
    async fn set_finalizer(&self, object: &TrainingJob, present: bool) -> Result<TrainingJob, Error> {
        let finalizers = object.finalizers_with(present);
        Ok(set_finalizers(&self.cluster.client, MANAGED_BY, object, &finalizers).await?)
    }

    fn api(&self, object: &TrainingJob) -> Api<TrainingJob> {
        Api::namespaced(self.cluster.client.clone(), object.namespace())
    }
}

/// Whether nothing more is to be done about it: its job has ended, and it may go at any time.
fn is_settled(object: &TrainingJob) -> bool {
    let ended = matches!(object.status.phase, Some(Phase::Succeeded | Phase::Failed | Phase::Cancelled));
    ended && !object.has_finalizer()
}

/// Why a job was not accepted.
enum Refused {
    /// As long as neither it nor the settings change.
    Finally(String),
    /// Something is away.
    ForNow(Problem),
}

impl Refused {
    fn by_launcher(problem: Problem) -> Self {
        if problem.status().is_server_error() {
            return Self::ForNow(problem);
        }
        // The text names the field of the job.
        let told = problem.field().map(|field| {
            let message = problem.detail().strip_prefix(&format!("`{field}`: ")).unwrap_or(problem.detail());
            Invalid::new(resource_path(field), message).to_string()
        });
        Self::Finally(told.unwrap_or_else(|| problem.detail().to_owned()))
    }
}
