//! The objects of ModelDeployments, as the API server has them.

mod child;
mod kinds;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::json;
use slipway_kubernetes_client::{Connection, api, apply, delete, reflect, text};
use slipway_kubernetes_serving::{
    GrpcRoute, HttpRoute, MANAGED_BY, Objects, Owner, POOL, POOLED_LABEL, Scale, ServiceMonitor, base_of,
    owner_of, selector,
};
use tokio::sync::Notify;

use self::child::{Child, keep, kept_mark};
pub(super) use self::kinds::Kinds;
use self::kinds::Presence;

/// Field manager of the number of pods. It is another one than that of the Deployment, in which the number is
/// not a field of ours where it is the autoscaler's.
const SCALED_BY: &str = "slipway-rollout-controller-scale";

/// Objects of one kind by namespace and name.
#[derive(Clone)]
struct Watched<K: Child>(Vec<Store<K>>);

impl<K: Child> Watched<K> {
    /// Of a kind that the cluster does not have.
    const fn none() -> Self {
        Self(Vec::new())
    }

    fn get(&self, owner: &Owner) -> Option<Arc<K>> {
        let reference = ObjectRef::new(&owner.name).within(&owner.namespace);
        self.0.iter().find_map(|store| store.get(&reference))
    }

    /// Waits until all objects are known.
    async fn listed(&self) {
        for store in &self.0 {
            // Fails where the watch is gone, and this with it.
            let _ = store.wait_until_ready().await;
        }
    }

    fn all(&self) -> impl Iterator<Item = Arc<K>> {
        self.0.iter().flat_map(Store::state)
    }

    /// Whether the object is still what was applied: its mark then.
    fn is_as_applied(&self, owner: &Owner, applied: Option<u64>) -> bool {
        match (self.get(owner), applied) {
            (Some(found), Some(mark)) => kept_mark(found.meta()) == Some(mark),
            // One that was removed on purpose may still be listed for a moment.
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }
}

/// The objects.
pub(super) struct Children {
    client: Client,
    deployments: Watched<Deployment>,
    pods: Watched<Pod>,
    services: Watched<Service>,
    accounts: Watched<ServiceAccount>,
    budgets: Watched<PodDisruptionBudget>,
    policies: Watched<NetworkPolicy>,
    autoscalers: Watched<HorizontalPodAutoscaler>,
    ingresses: Watched<Ingress>,
    http_routes: Watched<HttpRoute>,
    grpc_routes: Watched<GrpcRoute>,
    service_monitors: Watched<ServiceMonitor>,
    kinds: Kinds,
}

impl Debug for Children {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Children").finish_non_exhaustive()
    }
}

/// The marks of the objects that were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks {
    deployment: Option<u64>,
    service: Option<u64>,
    account: Option<u64>,
    budget: Option<u64>,
    policy: Option<u64>,
    autoscaler: Option<u64>,
    ingress: Option<u64>,
    http_route: Option<u64>,
    grpc_route: Option<u64>,
    service_monitor: Option<u64>,
}

type Watch<'run> = BoxFuture<'run, ()>;

/// Watches the objects of one kind, where the cluster has it and the operator may.
fn watched_if<'run, K: Child>(
    presence: &Presence,
    cluster: &'run Connection,
    news: &'run Notify,
    watches: &mut Vec<Watch<'run>>,
) -> Watched<K> {
    if presence.is_here() { watched(cluster, news, watches) } else { Watched::none() }
}

/// Watches the objects of one kind. The watches do not return.
fn watched<'run, K: Child>(
    cluster: &'run Connection,
    news: &'run Notify,
    watches: &mut Vec<Watch<'run>>,
) -> Watched<K> {
    let config = watcher::Config::default().labels(&selector());
    let (stores, watch) = reflect(cluster, &config, keep::<K>, news);
    watches.push(watch);
    Watched(stores)
}

impl Children {
    /// The objects, and the watches that keep them up to date, which do not return.
    pub(super) fn watch<'run>(
        cluster: &'run Connection,
        kinds: Kinds,
        news: &'run Notify,
    ) -> (Self, Watch<'run>) {
        let mut watches = Vec::new();
        let children = Self {
            client: cluster.client.clone(),
            deployments: watched(cluster, news, &mut watches),
            pods: watched(cluster, news, &mut watches),
            services: watched(cluster, news, &mut watches),
            accounts: watched(cluster, news, &mut watches),
            budgets: watched(cluster, news, &mut watches),
            policies: watched(cluster, news, &mut watches),
            autoscalers: watched(cluster, news, &mut watches),
            ingresses: watched_if(&kinds.ingresses, cluster, news, &mut watches),
            http_routes: watched_if(&kinds.http_routes, cluster, news, &mut watches),
            grpc_routes: watched_if(&kinds.grpc_routes, cluster, news, &mut watches),
            service_monitors: watched_if(&kinds.service_monitors, cluster, news, &mut watches),
            kinds,
        };
        (children, Box::pin(async move { drop(join_all(watches).await) }))
    }

    /// Waits until all objects are known.
    pub(super) async fn listed(&self) {
        tokio::join!(
            self.deployments.listed(),
            self.pods.listed(),
            self.services.listed(),
            self.accounts.listed(),
            self.budgets.listed(),
            self.policies.listed(),
            self.autoscalers.listed(),
            self.ingresses.listed(),
            self.http_routes.listed(),
            self.grpc_routes.listed(),
            self.service_monitors.listed(),
        );
    }

    /// Whether the Service of a ModelDeployment leads to the pool.
    pub(super) fn is_pooled(&self, owner: &Owner) -> bool {
        self.services.get(owner).is_some_and(|service| service.labels().contains_key(POOLED_LABEL))
    }

    /// The pods' Deployment of a ModelDeployment.
    pub(super) fn deployment(&self, owner: &Owner) -> Option<Arc<Deployment>> {
        self.deployments.get(owner)
    }

    /// Whether there are objects of this name.
    pub(super) fn are_there(&self, owner: &Owner) -> bool {
        self.deployments.get(owner).is_some() || self.services.get(owner).is_some()
    }

    /// All pods, by ModelDeployment, whichever of its versions they serve.
    pub(super) fn pods(&self) -> HashMap<Owner, Vec<Arc<Pod>>> {
        let mut pods: HashMap<Owner, Vec<Arc<Pod>>> = HashMap::new();
        for pod in self.pods.all() {
            if let Some(owner) = base_of(&pod.metadata) {
                pods.entry(owner).or_default().push(pod);
            }
        }
        pods
    }

    /// Whether everything is still as it was applied.
    pub(super) fn are_as_applied(&self, owner: &Owner, marks: &Marks) -> bool {
        self.deployments.is_as_applied(owner, marks.deployment)
            && self.services.is_as_applied(owner, marks.service)
            && self.accounts.is_as_applied(owner, marks.account)
            && self.budgets.is_as_applied(owner, marks.budget)
            && self.policies.is_as_applied(owner, marks.policy)
            && self.autoscalers.is_as_applied(owner, marks.autoscaler)
            && self.ingresses.is_as_applied(owner, marks.ingress)
            && self.http_routes.is_as_applied(owner, marks.http_route)
            && self.grpc_routes.is_as_applied(owner, marks.grpc_route)
            && self.service_monitors.is_as_applied(owner, marks.service_monitor)
    }

    /// Applies everything, and removes what is not needed any more. The Service leads to the pool before the
    /// pods go.
    pub(super) async fn apply(&self, owner: &Owner, objects: &Objects) -> Result<Marks, Refusal> {
        self.kinds.check(objects).map_err(Refusal::Finally)?;
        let mut marks = Marks {
            account: self.put(&self.accounts, owner, objects.account.as_ref()).await?,
            service: self.put(&self.services, owner, Some(&objects.service)).await?,
            policy: self.put(&self.policies, owner, objects.policy.as_ref()).await?,
            budget: self.put(&self.budgets, owner, objects.budget.as_ref()).await?,
            ..Marks::default()
        };
        // Without the autoscaler, the number of pods is the Deployment's own again.
        let autoscaler = objects.autoscaler.as_ref();
        if autoscaler.is_none() {
            self.put(&self.autoscalers, owner, None).await?;
        }
        let deployment = self.put_object(&self.deployments, owner, objects.deployment.as_ref()).await?;
        if let (Some(scale), Some(deployment)) = (objects.scale, &deployment) {
            self.scale(deployment, owner, scale).await?;
        }
        marks.deployment = deployment.as_ref().map(Child::mark);
        marks.autoscaler = self.put(&self.autoscalers, owner, autoscaler).await?;
        self.expose(owner, objects, &mut marks).await?;
        Ok(marks)
    }

    /// The part of [`Self::apply`] that clients outside of the cluster, and Prometheus, need.
    async fn expose(&self, owner: &Owner, objects: &Objects, marks: &mut Marks) -> Result<(), Refusal> {
        marks.ingress = self.put(&self.ingresses, owner, objects.ingress.as_ref()).await?;
        marks.http_route = self.put(&self.http_routes, owner, objects.http_route.as_ref()).await?;
        marks.grpc_route = self.put(&self.grpc_routes, owner, objects.grpc_route.as_ref()).await?;
        let monitor = objects.service_monitor.as_ref().filter(|_| self.kinds.service_monitors.is_here());
        marks.service_monitor = self.put(&self.service_monitors, owner, monitor).await?;
        Ok(())
    }

    /// Sets the number of pods where there are to be none, or where there are to be more. Any other number is
    /// the autoscaler's.
    async fn scale(&self, deployment: &Deployment, owner: &Owner, scale: Scale) -> Result<(), Refusal> {
        let now = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
        let wanted = match scale {
            Scale::Zero if now > 0 => 0,
            Scale::AtLeast(number) if now < number => number,
            Scale::Zero | Scale::AtLeast(_) => return Ok(()),
        };
        let parameters = PatchParams { field_manager: Some(SCALED_BY.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"spec": {"replicas": wanted}}));
        let deployments = api::<Deployment>(&self.client, &owner.namespace);
        deployments.patch_scale(&owner.name, &parameters, &patch).await.map_err(Refusal::of)?;
        Ok(())
    }

    /// Deletes the objects of what is not needed any more: the pool of a namespace, or a version that has
    /// pods of its own.
    pub(super) async fn remove(&self, owner: &Owner) -> Result<(), Refusal> {
        self.put(&self.deployments, owner, None).await?;
        self.put(&self.services, owner, None).await?;
        self.put(&self.budgets, owner, None).await?;
        self.put(&self.policies, owner, None).await?;
        self.put(&self.accounts, owner, None).await?;
        self.put(&self.autoscalers, owner, None).await?;
        self.put(&self.service_monitors, owner, None).await?;
        Ok(())
    }

    /// The pools that there are.
    pub(super) fn pools(&self) -> Vec<Owner> {
        let owners = self.deployments.all().filter_map(|deployment| owner_of(deployment.meta()));
        owners.filter(|owner| owner.name == POOL).collect()
    }

    /// [`Self::put_object`]; the mark of what was applied.
    async fn put<K: Child>(
        &self,
        known: &Watched<K>,
        owner: &Owner,
        object: Option<&K>,
    ) -> Result<Option<u64>, Refusal> {
        Ok(self.put_object(known, owner, object).await?.as_ref().map(Child::mark))
    }

    /// Applies an object, or removes the one that is there and not needed any more.
    async fn put_object<K: Child>(
        &self,
        known: &Watched<K>,
        owner: &Owner,
        object: Option<&K>,
    ) -> Result<Option<K>, Refusal> {
        let Owner { namespace, name } = owner;
        let Some(object) = object else {
            if known.get(owner).is_some_and(|found| is_own(found.meta(), owner)) {
                delete::<K>(&self.client, namespace, name).await.map_err(Refusal::of)?;
            }
            return Ok(None);
        };
        // An object of the same name that the operator did not create is not taken over.
        if known.get(owner).is_none() {
            let found = api::<K>(&self.client, namespace).get_opt(name).await.map_err(Refusal::of)?;
            if found.is_some_and(|found| !is_own(found.meta(), owner)) {
                let kind = K::kind(&());
                return Err(Refusal::Finally(format!(
                    "the {kind} `{namespace}/{name}` exists already and does not belong to this \
                     ModelDeployment"
                )));
            }
        }
        let applied = apply(&self.client, MANAGED_BY, namespace, object).await.map_err(Refusal::of)?;
        Ok(Some(applied))
    }

    /// Deletes the pods of a ModelDeployment, which answer what they have taken.
    pub(super) async fn drain(&self, owner: &Owner) -> Result<(), kube::Error> {
        let own = self.deployments.all().filter(|found| base_of(found.meta()).as_ref() == Some(owner));
        for found in own.filter(|found| found.meta().deletion_timestamp.is_none()) {
            delete::<Deployment>(&self.client, &owner.namespace, &found.name_any()).await?;
        }
        Ok(())
    }

    /// The versions of a ModelDeployment that have pods of their own, by the names of their objects.
    pub(super) fn versions(&self, owner: &Owner) -> Vec<Owner> {
        let own = self.deployments.all().filter(|found| base_of(found.meta()).as_ref() == Some(owner));
        let parts = own.filter_map(|found| owner_of(found.meta()));
        parts.filter(|part| part != owner).collect()
    }
}

fn is_own(metadata: &ObjectMeta, owner: &Owner) -> bool {
    owner_of(metadata).as_ref() == Some(owner)
}

/// Why an object was not applied.
#[derive(Debug)]
pub(super) enum Refusal {
    /// As long as the object stays the same.
    Finally(String),
    /// The API server is unreachable or busy.
    ForNow(kube::Error),
}

impl Refusal {
    fn of(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 422) => {
                Self::Finally(text(&error))
            }
            _ => Self::ForNow(error),
        }
    }
}
