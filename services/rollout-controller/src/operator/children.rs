//! The objects of ModelDeployments, as the API server has them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use slipway_kubernetes_client::{Connection, apply, delete, reflect, text};
use slipway_kubernetes_serving::{MANAGED_BY, Objects, Owner, owner_of, selector};
use tokio::sync::Notify;

/// A kind of object.
pub(super) trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// What changes when somebody changes what the object is to be.
    fn mark(&self) -> u64;

    /// Leaves out what is not looked at.
    fn prune(&mut self);
}

/// Annotation with the mark of an object that is kept.
const MARK: &str = "mark";

/// Keeps of an object what is looked at, and its mark: a thousand of them are to take little memory and time.
fn keep<K: Child>(object: &mut K) {
    let mark = object.mark().to_string();
    object.prune();
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.annotations = Some([(MARK.to_owned(), mark)].into());
}

/// The mark of an object that is kept.
fn kept_mark(metadata: &ObjectMeta) -> Option<u64> {
    metadata.annotations.as_ref()?.get(MARK)?.parse().ok()
}

/// Hash of a value, by its JSON.
fn hash_of(thing: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    json!(thing).to_string().hash(&mut hasher);
    hasher.finish()
}

impl Child for Deployment {
    fn mark(&self) -> u64 {
        hash_of(&(self.metadata.generation, &self.metadata.labels))
    }

    fn prune(&mut self) {
        if let Some(spec) = &mut self.spec {
            spec.template = PodTemplateSpec::default();
        }
    }
}

impl Child for Pod {
    fn mark(&self) -> u64 {
        0
    }

    fn prune(&mut self) {
        self.spec = None;
    }
}

/// Objects whose whole `spec` is compared.
macro_rules! compared {
    ($kind:ty, $field:ident) => {
        impl Child for $kind {
            fn mark(&self) -> u64 {
                hash_of(&(&self.$field, &self.metadata.labels))
            }

            fn prune(&mut self) {
                self.$field = None;
            }
        }
    };
}
compared!(Service, spec);
compared!(ServiceAccount, automount_service_account_token);
compared!(PodDisruptionBudget, spec);
compared!(NetworkPolicy, spec);
compared!(HorizontalPodAutoscaler, spec);

/// Objects of one kind by namespace and name.
#[derive(Clone)]
struct Watched<K: Child>(Vec<Store<K>>);

impl<K: Child> Watched<K> {
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
}

type Watch<'run> = BoxFuture<'run, ()>;

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
    pub(super) fn watch<'run>(cluster: &'run Connection, news: &'run Notify) -> (Self, Watch<'run>) {
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
        );
    }

    /// The pods' Deployment of a ModelDeployment.
    pub(super) fn deployment(&self, owner: &Owner) -> Option<Arc<Deployment>> {
        self.deployments.get(owner)
    }

    /// All pods, by ModelDeployment.
    pub(super) fn pods(&self) -> HashMap<Owner, Vec<Arc<Pod>>> {
        let mut pods: HashMap<Owner, Vec<Arc<Pod>>> = HashMap::new();
        for pod in self.pods.all() {
            if let Some(owner) = owner_of(&pod.metadata) {
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
    }

    /// Applies everything, and removes what is not needed any more.
    pub(super) async fn apply(&self, owner: &Owner, objects: &Objects) -> Result<Marks, Refusal> {
        let Objects { account, deployment, service, budget, policy, autoscaler } = objects;
        let mut marks = Marks {
            account: self.put(&self.accounts, owner, account.as_ref()).await?,
            service: self.put(&self.services, owner, Some(service)).await?,
            policy: self.put(&self.policies, owner, Some(policy)).await?,
            budget: self.put(&self.budgets, owner, Some(budget)).await?,
            ..Marks::default()
        };
        // Without the autoscaler, the number of pods is the Deployment's own again.
        if autoscaler.is_none() {
            self.put(&self.autoscalers, owner, None).await?;
        }
        marks.deployment = self.put(&self.deployments, owner, Some(deployment)).await?;
        marks.autoscaler = self.put(&self.autoscalers, owner, autoscaler.as_ref()).await?;
        Ok(marks)
    }

    async fn put<K: Child>(
        &self,
        known: &Watched<K>,
        owner: &Owner,
        object: Option<&K>,
    ) -> Result<Option<u64>, Refusal> {
        let Owner { namespace, name } = owner;
        let Some(object) = object else {
            if known.get(owner).is_some_and(|found| is_own(found.meta(), owner)) {
                delete::<K>(&self.client, namespace, name).await.map_err(Refusal::of)?;
            }
            return Ok(None);
        };
        // An object of the same name that the operator did not create is not taken over.
        if known.get(owner).is_none() {
            let api = slipway_kubernetes_client::api::<K>(&self.client, namespace);
            let found = api.get_opt(name).await.map_err(Refusal::of)?;
            if found.is_some_and(|found| !is_own(found.meta(), owner)) {
                let kind = K::kind(&());
                return Err(Refusal::Finally(format!(
                    "the {kind} `{namespace}/{name}` exists already and does not belong to this \
                     ModelDeployment"
                )));
            }
        }
        let applied = apply(&self.client, MANAGED_BY, namespace, object).await.map_err(Refusal::of)?;
        Ok(Some(applied.mark()))
    }

    /// Deletes the pods of a ModelDeployment, which answer what they have taken.
    pub(super) async fn drain(&self, owner: &Owner) -> Result<(), kube::Error> {
        match self.deployments.get(owner) {
            Some(found) if found.meta().deletion_timestamp.is_none() && is_own(found.meta(), owner) => {
                delete::<Deployment>(&self.client, &owner.namespace, &found.name_any()).await
            }
            _ => Ok(()),
        }
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
