//! What follows ModelDeployments, and what it knows of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use slipway_api::traffic::Pool;
use slipway_http_server::Problem;
use slipway_kubernetes_client::{Connection, text};
use slipway_kubernetes_resources::model_deployment::{Deployed, ModelDeployment, Pods};
use slipway_kubernetes_serving::{Facts, Owner, Situation};

use super::applied::Applied;
use super::children::Children;
use crate::state::State;

/// Why an object could not be followed now; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Controller(#[from] Problem),
    #[error("the API server: {}", text(.0))]
    Cluster(#[from] kube::Error),
}

/// Follows objects.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) state: State,
    pub(super) cluster: Connection,
    pub(super) facts: Facts,
    pub(super) children: Children,
    known: Mutex<Known>,
}

/// What is known of objects, by UID. It may be lost: then everything is applied again.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Why objects were refused.
    pub(super) refused: HashMap<String, Refusal>,
    /// What has to be there before the specs of objects can be applied.
    pub(super) waits: HashMap<String, String>,
    /// What was applied, for objects, for versions that have pods of their own and for pools of namespaces.
    pub(super) applied: HashMap<Owner, Applied>,
    /// Objects that need nothing more, as they were last seen.
    pub(super) done: HashMap<String, Seen>,
}

#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) generation: i64,
    pub(super) at: Instant,
    pub(super) reason: String,
    /// Whether it is about the objects that the ModelDeployment needs, not about its deployment.
    pub(super) is_of_objects: bool,
}

/// What a pass sees of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) resource_version: Option<String>,
    pub(super) deployed: Option<Deployed>,
    /// None where there is no Deployment of Kubernetes.
    pub(super) pods: Option<Pods>,
    /// Whether there is a pod, with or without a Deployment.
    pub(super) has_pods: bool,
    /// What the pool is to do for it.
    pub(super) pool: Option<Pool>,
    /// Versions that have pods of their own.
    pub(super) versions: Vec<Version>,
    /// What is so at the moment.
    pub(super) situation: Situation,
}

/// A version that has pods of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) version: String,
    /// Of the objects.
    pub(super) owner: Owner,
    /// Pods that it needs for its share of the traffic.
    pub(super) least_pods: u32,
}

impl Follower {
    pub(super) fn new(state: State, cluster: Connection, facts: Facts, children: Children) -> Self {
        Self { state, cluster, facts, children, known: Mutex::default() }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is one insertion or removal; a panic cannot leave it half-written.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refuse(&self, object: &ModelDeployment, reason: String, is_of_objects: bool) {
        let (generation, at) = (object.generation(), Instant::now());
        let refusal = Refusal { generation, at, reason, is_of_objects };
        self.known().refused.insert(object.uid().to_owned(), refusal);
    }

    pub(super) fn refusal(&self, object: &ModelDeployment) -> Option<Refusal> {
        self.known().refused.get(object.uid()).cloned()
    }

    /// The objects of an object are not refused any more.
    pub(super) fn accept(&self, object: &ModelDeployment) {
        let mut known = self.known();
        if known.refused.get(object.uid()).is_some_and(|refusal| refusal.is_of_objects) {
            known.refused.remove(object.uid());
        }
    }
}
