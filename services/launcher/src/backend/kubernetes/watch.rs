//! What the API server tells about the objects of an installation, without being asked.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event as Warning, Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::runtime::watcher::{self, Event};
use slipway_kubernetes_client::watch;
use slipway_kubernetes_jobs::{Observed, observe};
use tokio::sync::Notify;

use super::table::{AttemptKey, Labelled, Table};
use crate::backend::Left;

/// Warnings about Jobs: that a quota is exceeded is in an event alone.
const WARNINGS: &str = "involvedObject.kind=Job,type=Warning";

/// What the watches have shown.
#[derive(Debug, Default)]
pub(super) struct Watched {
    objects: RwLock<Objects>,
    /// Told when there is news about an attempt.
    pub(super) news: Notify,
}

#[derive(Debug, Default)]
struct Objects {
    jobs: Table<Job>,
    pods: Table<Pod>,
    /// The newest warning about a Job, by namespace and name.
    warnings: HashMap<(String, String), String>,
}

impl Labelled for Job {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Labelled for Pod {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Objects {
    fn observed(&self, key: &AttemptKey) -> Observed {
        let jobs = self.jobs.of(key);
        let job = jobs.first().map(AsRef::as_ref);
        let pods = self.pods.of(key);
        let warning = job.and_then(|job| {
            let ObjectMeta { namespace, name, .. } = &job.metadata;
            self.warnings.get(&(namespace.clone()?, name.clone()?))
        });
        observe(job, pods.iter().map(AsRef::as_ref), warning.map(String::as_str))
    }
}

impl Watched {
    /// What is known about an attempt; `None` while not everything has been listed.
    pub(super) fn observed(&self, namespaces: &[String], key: &AttemptKey) -> Option<Observed> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let is_synced = objects.jobs.is_synced(namespaces) && objects.pods.is_synced(namespaces);
        is_synced.then(|| objects.observed(key))
    }

    /// Jobs of a job's attempts up to `last`.
    pub(super) fn jobs_of(&self, job_id: &str, last: u32) -> Vec<Arc<Job>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        (1..=last).flat_map(|attempt| objects.jobs.of(&(job_id.to_owned(), attempt))).collect()
    }

    /// Attempts of which something may still run.
    pub(super) fn unfinished(&self) -> Vec<Left> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let left = |key: &AttemptKey| {
            if objects.jobs.of(key).iter().all(|job| job.metadata.deletion_timestamp.is_some()) {
                return None;
            }
            let runs = match objects.observed(key) {
                Observed::Ended { .. } | Observed::Absent => return None,
                Observed::Waiting { .. } => false,
                Observed::Running { .. } => true,
            };
            Some(Left { job_id: key.0.clone(), attempt: key.1, runs })
        };
        objects.jobs.attempts().filter_map(left).collect()
    }

    /// Adds a Job that was created just now: its watch tells of it later.
    pub(super) fn insert(&self, namespace: &str, mut job: Job) {
        prune_job(&mut job);
        self.objects.write().unwrap_or_else(PoisonError::into_inner).jobs.insert(namespace, job);
    }

    /// Changes the objects, and tells where that is news about an attempt.
    fn change(&self, key: Option<AttemptKey>, change: impl FnOnce(&mut Objects)) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let before = key.as_ref().map(|key| objects.observed(key));
        change(&mut objects);
        let after = key.as_ref().map(|key| objects.observed(key));
        drop(objects);
        // A list that is complete is news about any attempt.
        if key.is_none() || before != after {
            self.news.notify_one();
        }
    }

    /// Watches until it is dropped.
    pub(super) async fn run(&self, client: &Client, namespaces: &[String], selector: &str) {
        join_all(namespaces.iter().map(|namespace| self.watch(client, namespace, selector))).await;
    }

    async fn watch(&self, client: &Client, namespace: &str, selector: &str) {
        let own = watcher::Config::default().labels(selector);
        let jobs = watch::<Job>(client, namespace, own.clone(), |event| {
            let event = event.modify(prune_job);
            self.change(key_of(&event), |objects| objects.jobs.apply(namespace, event));
        });
        let pods = watch::<Pod>(client, namespace, own, |event| {
            let event = event.modify(prune_pod);
            self.change(key_of(&event), |objects| objects.pods.apply(namespace, event));
        });
        let warnings = watcher::Config::default().fields(WARNINGS);
        let warnings = watch::<Warning>(client, namespace, warnings, |event| self.warn(namespace, event));
        tokio::join!(jobs, pods, warnings);
    }

    fn warn(&self, namespace: &str, event: Event<Warning>) {
        let name = |warning: &Warning| warning.involved_object.name.clone().unwrap_or_default();
        match event {
            Event::Apply(warning) | Event::InitApply(warning) => {
                let text = warning.message.clone().or_else(|| warning.reason.clone()).unwrap_or_default();
                let key = (namespace.to_owned(), name(&warning));
                self.change(None, |objects| drop(objects.warnings.insert(key, text)));
            }
            // Kubernetes deletes an event after an hour, and repeats one that still holds.
            Event::Delete(warning) => {
                let key = (namespace.to_owned(), name(&warning));
                self.change(None, |objects| drop(objects.warnings.remove(&key)));
            }
            Event::Init | Event::InitDone => {}
        }
    }
}

/// The attempt that an event is about; `None` for a list.
fn key_of<K: Labelled>(event: &Event<K>) -> Option<AttemptKey> {
    match event {
        Event::Apply(object) | Event::Delete(object) => {
            slipway_kubernetes_jobs::attempt_of(object.metadata())
        }
        Event::Init | Event::InitApply(_) | Event::InitDone => None,
    }
}

/// Keeps what is looked at: a thousand jobs are to take little memory.
fn prune_job(job: &mut Job) {
    job.metadata.managed_fields = None;
    job.metadata.annotations = None;
    if let Some(spec) = &mut job.spec {
        spec.template = PodTemplateSpec::default();
    }
}

fn prune_pod(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    if let Some(spec) = pod.spec.take() {
        pod.spec = Some(PodSpec { node_name: spec.node_name, ..PodSpec::default() });
    }
}
