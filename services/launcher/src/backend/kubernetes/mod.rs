//! Attempts as Jobs of a Kubernetes cluster.
//!
//! An attempt is one Job, with a Secret that has its tokens. Who acts for an attempt is its owner in the
//! database, as for every backend, so that any number of launchers serve one cluster. What became of an
//! attempt is read from watches; the API server is asked only where they do not know the attempt.
//!
//! The Job is created first and owns the Secret: whatever is cut off, deleting the Job deletes everything.
//! The pod gets its tokens in time because its init container runs before it needs them. An attempt whose
//! Secret was never created waits for it, which its pod says.

mod apply;
mod config;
mod secrets;
mod starts;
mod table;
mod watch;

pub use config::{BackendName, KubernetesConfig};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use slipway_domain::Invalid;
use slipway_domain::training::{BackendKind, JobSpec, Loss, Outcome};
use slipway_kubernetes_client::{Connection, text};
use slipway_kubernetes_jobs::{Attempt, Cause, Facts, Observed, attempt_of, build, of_attempt, selector};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::apply::Failure;
use self::secrets::Secrets;
use self::starts::{Start, Starts};
use self::table::AttemptKey;
use self::watch::Watched;
use super::{Backend, Error, Launch, Left, Seen};

/// So many deleted attempts are remembered until they are reported.
const MAX_DELETED: usize = 10_000;

/// A cluster that runs attempts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Kubernetes {
    cluster: Arc<Cluster>,
}

struct Cluster {
    client: Client,
    /// Its name.
    name: String,
    namespaces: Vec<String>,
    facts: Facts,
    watched: Watched,
    starts: Starts,
    secrets: Secrets,
    /// Attempts whose Jobs this launcher has deleted while they ran.
    deleted: Mutex<BTreeSet<AttemptKey>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Runs attempts in this cluster.
    ///
    /// # Errors
    /// A setting is wrong.
    pub(crate) fn new(
        config: &KubernetesConfig,
        cluster: &Connection,
        installation: Uuid,
    ) -> anyhow::Result<Self> {
        let Connection { client, namespaces } = cluster.clone();
        let facts = config.facts(installation, namespaces[0].clone())?;
        let cluster = Cluster {
            client,
            name: config.kubernetes_cluster.clone(),
            namespaces,
            facts,
            watched: Watched::default(),
            starts: Starts::default(),
            secrets: Secrets::default(),
            deleted: Mutex::default(),
        };
        Ok(Self { cluster: Arc::new(cluster) })
    }

    /// Asks the API server itself, which knows more than the watches have told.
    async fn ask(&self, key: &AttemptKey) -> Result<Seen, Error> {
        let Cluster { namespaces, watched, .. } = &*self.cluster;
        for namespace in namespaces {
            let found = self.cluster.find(namespace, &key.0, key.1).await;
            if let Some(job) = found.map_err(|error| Error::Cluster(text(&error)))? {
                watched.insert(namespace, job);
                return Ok(Seen::pending("its pod is being created".to_owned()));
            }
        }
        Ok(if self.cluster.is_deleted(key) {
            Seen::Lost { reason: "its agent did not report".to_owned(), cause: Loss::Disruption }
        } else {
            Seen::lost("its Job was deleted from the cluster, or never created")
        })
    }
}

impl Cluster {
    /// What the objects of an attempt show, said as the launcher needs it.
    fn seen(observed: Observed) -> Option<Seen> {
        match observed {
            Observed::Absent => None,
            Observed::Waiting { reason, is_partial, .. } => Some(Seen::Pending { reason, is_partial }),
            Observed::Running { .. } => Some(Seen::Alive),
            Observed::Ended { cause: Cause::OutOfMemory, .. } => {
                Some(Seen::Ended { outcome: Outcome::OutOfMemory { used_bytes: None } })
            }
            Observed::Ended { cause: Cause::Refused, reason } => {
                Some(Seen::Ended { outcome: Outcome::NotStarted { reason } })
            }
            Observed::Ended { cause: Cause::Disruption, reason } => {
                Some(Seen::Lost { reason, cause: Loss::Disruption })
            }
            Observed::Ended { cause: Cause::Exited { .. }, reason } => Some(Seen::lost(&reason)),
        }
    }

    /// The Job of an attempt, as the API server has it now.
    async fn find(&self, namespace: &str, job_id: &str, attempt: u32) -> Result<Option<Job>, kube::Error> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let wanted = of_attempt(&self.facts.installation, job_id, attempt);
        let found = jobs.list(&ListParams::default().labels(&wanted)).await?;
        Ok(found.items.into_iter().next())
    }

    fn is_deleted(&self, key: &AttemptKey) -> bool {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Deletes a Job, with its pods; `false` where there is none. It stays until they are gone.
    async fn delete(&self, key: &AttemptKey, job: &Job) -> Result<bool, Error> {
        let metadata = &job.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        if metadata.deletion_timestamp.is_some() {
            return Ok(true);
        }
        let jobs: Api<Job> =
            Api::namespaced(self.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
        match jobs.delete(name, &DeleteParams::foreground()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(false),
            Err(error) => return Err(Error::Cluster(text(&error))),
        }
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        if deleted.len() >= MAX_DELETED {
            deleted.clear();
        }
        deleted.insert(key.clone());
        Ok(true)
    }

    /// Whether the pod of an attempt says that its Secret does not exist.
    fn lacks_secret(&self, key: &AttemptKey, observed: &Observed) -> bool {
        let Observed::Waiting { reason, is_obstacle: true, .. } = observed else { return false };
        let jobs = self.watched.jobs_of(&key.0, key.1);
        jobs.iter()
            .filter_map(|job| job.metadata.name.as_ref())
            .any(|name| reason.contains(&format!("secret \"{name}\" not found")))
    }

    /// The Job of an attempt, if such a job may run in this cluster.
    fn job(&self, attempt: &Attempt<'_>) -> Result<Job, Invalid> {
        let namespace = attempt.namespace(&self.facts);
        if !self.namespaces.iter().any(|allowed| allowed == namespace) {
            let allowed = self.namespaces.join("`, `");
            return Err(Invalid::new("namespace", format!("expected one of `{allowed}`, got `{namespace}`")));
        }
        build(attempt, &self.facts)
    }
}

#[tonic::async_trait]
impl Backend for Kubernetes {
    fn kind(&self) -> BackendKind {
        BackendKind::Kubernetes
    }

    fn node(&self) -> &str {
        &self.cluster.name
    }

    fn check(&self, spec: &JobSpec) -> Result<(), Invalid> {
        let Some(kubernetes) = &spec.kubernetes else { return Ok(()) };
        let attempt = Attempt {
            job_id: "",
            attempt: 1,
            spec,
            kubernetes,
            variables: &BTreeMap::new(),
            secret_variables: &[],
            excluded_nodes: &[],
        };
        self.cluster.job(&attempt).map(drop)
    }

    async fn run(&self, shutdown: CancellationToken) {
        let Cluster { client, namespaces, facts, watched, .. } = &*self.cluster;
        let selector = selector(&facts.installation);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = watched.run(client, namespaces, &selector) => {}
            () = self.retry_starts() => {}
        }
    }

    async fn start(&self, launch: &Launch) -> Result<(), Error> {
        let key = (launch.job_id.clone(), launch.attempt);
        // While the API server fails, the first of those that wait tries it.
        let reason = if self.cluster.starts.is_any_waiting() {
            "waits for its turn".to_owned()
        } else {
            match self.create(launch).await {
                Ok(()) => return Ok(()),
                Err(Failure::Final(reason)) => return Err(Error::Refused(reason)),
                Err(Failure::Passing(reason)) => {
                    let (job_id, attempt) = (&launch.job_id, launch.attempt);
                    tracing::warn!(reason, job_id, attempt, "the API server accepts no Job now; retrying");
                    reason
                }
            }
        };
        self.cluster.starts.add(key, Start::waiting(launch.clone(), reason));
        Ok(())
    }

    async fn report(&self, job_id: &str, attempt: u32) -> Result<Seen, Error> {
        let key = (job_id.to_owned(), attempt);
        if let Some(seen) = self.cluster.starts.seen(&key) {
            return Ok(seen);
        }
        let Cluster { namespaces, watched, .. } = &*self.cluster;
        let Some(observed) = watched.observed(namespaces, &key) else { return Ok(Seen::Unknown) };
        let lacks_secret = self.cluster.lacks_secret(&key, &observed);
        if self.cluster.secrets.is_missing(&key, lacks_secret, Instant::now()) {
            return Ok(Seen::lost("its launcher ended before it had created all of its objects"));
        }
        match Cluster::seen(observed) {
            Some(seen) => Ok(seen),
            None => self.ask(&key).await,
        }
    }

    async fn end_leftovers(&self, job_id: &str, last: u32) -> Result<usize, Error> {
        let Cluster { namespaces, watched, starts, secrets, .. } = &*self.cluster;
        starts.forget(job_id, last);
        secrets.forget(job_id, last);
        let mut deleted = 0;
        for job in watched.jobs_of(job_id, last) {
            let Some(key) = attempt_of(&job.metadata) else { continue };
            let observed = watched.observed(namespaces, &key);
            // A Job that has ended is kept for people until its time is over.
            if matches!(observed, Some(Observed::Ended { .. })) || !self.cluster.delete(&key, &job).await? {
                continue;
            }
            deleted += 1;
            // An agent that has not started yet is refused the lease, and does nothing.
            if matches!(observed, Some(Observed::Running { .. })) {
                return Err(Error::Ending(format!(
                    "Job {}",
                    job.metadata.name.as_deref().unwrap_or_default()
                )));
            }
        }
        Ok(deleted)
    }

    fn left(&self) -> Vec<Left> {
        let mut left = self.cluster.watched.unfinished();
        let waiting = self.cluster.starts.keys().into_iter();
        left.extend(waiting.map(|(job_id, attempt)| Left { job_id, attempt, runs: false }));
        left
    }

    async fn agent_ended(&self) {
        self.cluster.watched.news.notified().await;
    }
}
