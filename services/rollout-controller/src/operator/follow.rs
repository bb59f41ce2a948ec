//! Passes over the ModelDeployments.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::reflector::Store;
use slipway_api::traffic::Pool;
use slipway_kubernetes_client::set_finalizers;
use slipway_kubernetes_resources::model_deployment::{
    Deployed, ModelDeployment, Observed, Spec, Step, placement, pool, status, step,
};
use slipway_kubernetes_serving::{MANAGED_BY, Owner, Situation, build, pod_selector, pods};
use slipway_runtime::clock;
use tokio::sync::Notify;

use super::applied::{Basis, Built};
use super::follower::{Error, Follower, Seen};
use super::{deployed, fault_replay};
use crate::{actor, overrides};

/// Objects are looked at this often although nothing was heard of them.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// What failed, and what was refused, is tried again after this time: a version may be registered by then.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
const REFUSED_FOR: Duration = Duration::from_secs(15);
/// Objects that are followed at the same time. Each takes a connection to Postgres for a moment.
const PARALLEL_OBJECTS: usize = 4;
/// News within this time makes one pass together.
const GATHER: Duration = Duration::from_millis(20);
/// Requests are looked at this often where an object may scale to zero.
const ZERO_INTERVAL: Duration = Duration::from_secs(1);

/// How far an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Everything is as it is to be.
    All,
    /// Something was changed, or is waited for.
    Something,
}

impl Follower {
    /// Does not return.
    pub(super) async fn run(self, stores: &[Store<ModelDeployment>], news: &Notify) {
        let (mut here, mut elsewhere) = (self.state.outbox.commits(), self.state.outbox.commits_elsewhere());
        // What is not listed yet would count as missing.
        self.children.listed().await;
        for store in stores {
            let _ = store.wait_until_ready().await;
        }
        let mut failing = false;
        loop {
            let objects: Vec<Arc<ModelDeployment>> = stores.iter().flat_map(Store::state).collect();
            let mut is_done = false;
            match self.pass(&objects).await {
                Ok(done) => (failing, is_done) = (false, done == Done::All),
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "a ModelDeployment cannot be followed now; retrying");
                    }
                }
            }
            let is_idle = is_done && self.known().refused.is_empty();
            let scales = objects.iter().any(|object| object.may_scale_to_zero());
            let pause = match is_idle {
                true if scales => ZERO_INTERVAL,
                true => IDLE_INTERVAL,
                false => RETRY_INTERVAL,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => continue,
                () = news.notified(), if !failing => {}
                _ = here.changed(), if !failing => {}
                _ = elsewhere.changed(), if !failing => {}
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Follows all of them, several at a time; the error is that of one of them.
    async fn pass(&self, objects: &[Arc<ModelDeployment>]) -> Result<Done, Error> {
        let uids: BTreeSet<&str> = objects.iter().map(|object| object.uid()).collect();
        {
            let mut known = self.known();
            known.refused.retain(|uid, _| uids.contains(uid.as_str()));
            known.waits.retain(|uid, _| uids.contains(uid.as_str()));
            known.done.retain(|uid, _| uids.contains(uid.as_str()));
            let owners: HashSet<Owner> = objects.iter().map(|object| Owner::from(object.as_ref())).collect();
            known.applied.retain(|owner, applied| {
                owners.contains(owner) || applied.is_recent() || self.children.are_there(owner)
            });
        }
        self.follow_pools(objects).await?;
        if objects.is_empty() {
            return Ok(Done::All);
        }
        let uids: Vec<String> = uids.into_iter().map(str::to_owned).collect();
        let mut found = deployed::of(&self.state, &uids).await?;
        let mut pods = self.children.pods();
        let mut following = Vec::with_capacity(objects.len());
        for object in objects {
            let pods = pods.remove(&Owner::from(object.as_ref())).unwrap_or_default();
            following.push(self.follow_one(object, found.remove(object.uid()), pods).boxed());
        }
        let results: Vec<Result<Done, Error>> =
            futures::stream::iter(following).buffer_unordered(PARALLEL_OBJECTS).collect().await;
        let done = results.into_iter().collect::<Result<Vec<Done>, Error>>()?;
        Ok(if done.contains(&Done::Something) { Done::Something } else { Done::All })
    }

    async fn follow_one(
        &self,
        object: &ModelDeployment,
        deployed: Option<Deployed>,
        pods: Vec<Arc<Pod>>,
    ) -> Result<Done, Error> {
        let owner = Owner::from(object);
        let seen = self.seen(object, &owner, deployed, &pods);
        if self.is_done(object, &owner, &seen) {
            return Ok(Done::All);
        }
        let name = format!("ModelDeployment {}/{}", owner.namespace, owner.name);
        match actor::acting_as(name, Box::pin(self.follow(object, &owner, &seen))).await {
            Ok(Done::All) => {
                self.known().done.insert(object.uid().to_owned(), seen);
                Ok(Done::All)
            }
            // It was changed or deleted in the meantime; the watch tells.
            Err(Error::Cluster(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                Ok(Done::Something)
            }
            followed => followed,
        }
    }

    fn seen(
        &self,
        object: &ModelDeployment,
        owner: &Owner,
        deployed: Option<Deployed>,
        own_pods: &[Arc<Pod>],
    ) -> Seen {
        let deployment = self.children.deployment(owner);
        let has_pods =
            !own_pods.is_empty() || deployment.is_some() || !self.children.versions(owner).is_empty();
        let together = || deployment.map(|deployment| pods(&deployment, own_pods.iter().map(AsRef::as_ref)));
        let pods = self.pods_of_versions(object, deployed.as_ref(), own_pods).or_else(together);
        let activity = self.activity(object, owner, deployed.as_ref(), pods.as_ref());
        let (versions, shares) = self.versions(object, deployed.as_ref());
        let placement = activity.as_ref().map(placement).unwrap_or_default();
        Seen {
            resource_version: object.metadata.resource_version.clone(),
            deployed,
            pods,
            has_pods,
            pool: activity.as_ref().and_then(pool),
            versions,
            situation: Situation { placement, shares, least_pods: 0 },
        }
    }

    /// Whether everything was done about an object that looks like this.
    fn is_done(&self, object: &ModelDeployment, owner: &Owner, seen: &Seen) -> bool {
        let is_known = {
            let (known, uid) = (self.known(), object.uid());
            known.done.get(uid) == Some(seen) && !known.refused.contains_key(uid)
        };
        let mut owners = seen.versions.iter().map(|version| &version.owner).chain([owner]);
        is_known
            && owners.all(|owner| self.are_as_applied(owner))
            && self.are_peers_as_applied(object, &seen.versions)
    }

    async fn follow(&self, object: &ModelDeployment, owner: &Owner, seen: &Seen) -> Result<Done, Error> {
        let mut object = object.clone();
        let mut deployed = seen.deployed.clone();
        let mut next = step(&object, deployed.as_ref(), seen.has_pods);
        if next == Step::AddFinalizer {
            object = self.set_finalizer(&object, true).await?;
            next = step(&object, deployed.as_ref(), seen.has_pods);
        }
        match next {
            Step::Drain => {
                self.children.drain(owner).await?;
                return Ok(Done::Something);
            }
            Step::Delete | Step::RemoveFinalizer => {
                if let Some(deployed) = &deployed {
                    deployed::delete(&self.state, &object, deployed).await?;
                }
                self.set_finalizer(&object, false).await?;
                return Ok(Done::Something);
            }
            Step::Keep if object.is_deleted() => return Ok(Done::Something),
            Step::Keep | Step::AddFinalizer | Step::Create | Step::Change => {}
        }
        let mut is_built = true;
        if let Some(spec) = self.parsed(&object) {
            deployed = self.deploy(&object, &spec, deployed, next).await?;
            is_built = self.build(&object, owner, &spec, seen).await?;
            is_built &= fault_replay::follow(&self.state, &object, &spec, deployed.as_ref()).await?;
        }
        let is_moved = self.move_to_pool(deployed.as_ref(), seen.pool).await?;
        let written = self.write(&object, deployed.as_ref(), seen).await?;
        let is_done = next == Step::Keep && is_built && !is_moved && !written;
        // What was changed is looked at once more.
        Ok(if is_done { Done::All } else { Done::Something })
    }

    /// Has the pool do something else for a deployment; whether it was to.
    async fn move_to_pool(&self, deployed: Option<&Deployed>, next: Option<Pool>) -> Result<bool, Error> {
        let Some(deployed) = deployed else { return Ok(false) };
        let deployment = &deployed.deployment;
        if deployment.traffic.pool.map(Pool::from) == next {
            return Ok(false);
        }
        overrides::set_pool(&self.state, &deployment.name, next).await?;
        Ok(true)
    }

    /// What an object asks for; `None` where that is refused.
    fn parsed(&self, object: &ModelDeployment) -> Option<Spec> {
        match object.parsed() {
            Ok(spec) => Some(spec),
            Err(invalid) => {
                self.refuse(object, invalid.to_string(), false);
                None
            }
        }
    }

    /// Creates or changes the deployment of an object, as far as it is not refused.
    async fn deploy(
        &self,
        object: &ModelDeployment,
        spec: &Spec,
        deployed: Option<Deployed>,
        next: Step,
    ) -> Result<Option<Deployed>, Error> {
        let refusal = self.refusal(object);
        let is_refused = refusal.is_some_and(|refusal| {
            let is_same = refusal.generation == object.generation() && !refusal.is_of_objects;
            is_same && refusal.at.elapsed() < REFUSED_FOR
        });
        let done = match (next, &deployed) {
            (Step::Create | Step::Change, _) if is_refused => return Ok(deployed),
            (Step::Create, _) => deployed::create(&self.state, object, spec).await,
            (Step::Change, Some(before)) => deployed::change_to(&self.state, object, spec, before).await,
            _ => return Ok(deployed),
        };
        match done {
            Ok(applied) => {
                let mut known = self.known();
                known.refused.remove(object.uid());
                known.waits.remove(object.uid());
                match applied {
                    deployed::Applied::Done(deployed) => Ok(Some(*deployed)),
                    deployed::Applied::Waits(why) => {
                        known.waits.insert(object.uid().to_owned(), why);
                        Ok(deployed)
                    }
                }
            }
            Err(problem) if problem.status().is_server_error() => Err(problem.into()),
            Err(problem) => {
                self.refuse(object, Spec::refusal(problem.field(), problem.detail()), false);
                Ok(deployed)
            }
        }
    }

    /// Applies the objects of an object, those of its versions first, to which its routes lead; whether all
    /// are as they are to be.
    async fn build(
        &self,
        object: &ModelDeployment,
        owner: &Owner,
        spec: &Spec,
        seen: &Seen,
    ) -> Result<bool, Error> {
        let Seen { versions, situation, deployed, .. } = seen;
        let mut built = self.build_peers(object, owner, spec, seen).await?;
        built.extend(self.build_versions(object, spec, versions).await?);
        let make = |situation: &Situation| build(object, spec, &self.facts, situation);
        built.push(self.apply(owner, Basis::of(object, situation.clone()), make).await?);
        let mut is_done = !built.contains(&Built::Changed);
        if is_done && deployed.is_some() {
            is_done = self.remove_versions(owner, versions).await?;
        }
        let refused = built.into_iter().find_map(|built| match built {
            Built::Refused(reason) => Some(reason),
            Built::Same | Built::Changed => None,
        });
        match refused {
            Some(reason) => self.refuse(object, reason, true),
            None => self.accept(object),
        }
        Ok(is_done)
    }

    /// Writes the status if it is another one; whether it was.
    async fn write(
        &self,
        object: &ModelDeployment,
        deployed: Option<&Deployed>,
        seen: &Seen,
    ) -> Result<bool, Error> {
        let refusal = self.refusal(object);
        let waits = self.known().waits.get(object.uid()).cloned();
        let monitor = monitor_of(object, deployed);
        let observed = Observed {
            deployed,
            pods: seen.pods.as_ref(),
            selector: &pod_selector(object),
            refusal: refusal.as_ref().map(|refusal| refusal.reason.as_str()),
            waits_for: waits.as_deref(),
            monitor: monitor.as_deref(),
            placement: seen.situation.placement,
            shares: &seen.situation.shares,
        };
        let status = status(object, &observed, DateTime::<Utc>::from(clock::now()));
        if status == object.status {
            return Ok(false);
        }
        let written = ModelDeployment { status, ..object.clone() };
        self.api(object).replace_status(object.name(), &PostParams::default(), &written).await?;
        Ok(true)
    }

    /// Adds or removes the finalizer of this version of the object.
    async fn set_finalizer(
        &self,
        object: &ModelDeployment,
        present: bool,
    ) -> Result<ModelDeployment, kube::Error> {
        let finalizers = object.finalizers_with(present);
        set_finalizers(&self.cluster.client, MANAGED_BY, object, &finalizers).await
    }

    fn api(&self, object: &ModelDeployment) -> Api<ModelDeployment> {
        Api::namespaced(self.cluster.client.clone(), object.namespace())
    }
}

/// The monitor that was made for an object: that of the spec that was applied, or before that, of the one
/// before.
fn monitor_of(object: &ModelDeployment, deployed: Option<&Deployed>) -> Option<String> {
    match deployed.filter(|deployed| deployed.generation >= object.generation()) {
        Some(deployed) => object.spec["monitor"].is_object().then(|| deployed.deployment.name.clone()),
        None => object.status.monitor.clone(),
    }
}
