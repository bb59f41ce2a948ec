//! Kinds of objects that not every cluster has, or that not every Role of an operator allows.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use slipway_kubernetes_client::{ALL_NAMESPACES, Connection};
use slipway_kubernetes_serving::{GrpcRoute, HttpRoute, Objects, ServiceMonitor};

/// Whether objects of a kind can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// The cluster does not have the kind.
    Missing,
    /// The operator may not list them.
    Forbidden,
}

impl Presence {
    pub(super) fn is_here(&self) -> bool {
        *self == Self::Here
    }

    /// Why an object of the kind is not made, where that is so.
    fn refuse(&self, field: &str, kind: &str, group: &str) -> Result<(), String> {
        match self {
            Self::Here => Ok(()),
            Self::Missing => Err(format!(
                "{field}: the cluster has no objects of the kind {kind} ({group}); install it first"
            )),
            Self::Forbidden => Err(format!(
                "{field}: the operator may not make objects of the kind {kind} ({group}); its Role lacks the \
                 permissions"
            )),
        }
    }
}

/// Which of the kinds there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(super) ingresses: Presence,
    pub(super) http_routes: Presence,
    pub(super) grpc_routes: Presence,
    pub(super) service_monitors: Presence,
}

impl Kinds {
    /// Those of a cluster.
    ///
    /// # Errors
    /// The API server is unreachable.
    pub(crate) async fn of(cluster: &Connection) -> Result<Self, kube::Error> {
        Ok(Self {
            ingresses: presence::<Ingress>(cluster).await?,
            http_routes: presence::<HttpRoute>(cluster).await?,
            grpc_routes: presence::<GrpcRoute>(cluster).await?,
            service_monitors: presence::<ServiceMonitor>(cluster).await?,
        })
    }

    /// Whether everything that a ModelDeployment asks for can be made.
    ///
    /// # Errors
    /// Names the field, and why it cannot.
    pub(super) fn check(&self, objects: &Objects) -> Result<(), String> {
        const GATEWAY: &str = "gateway.networking.k8s.io/v1";
        if objects.ingress.is_some() {
            self.ingresses.refuse("spec.ingress", "Ingress", "networking.k8s.io/v1")?;
        }
        if objects.http_route.is_some() {
            self.http_routes.refuse("spec.route.hostnames", "HTTPRoute", GATEWAY)?;
        }
        if objects.grpc_route.is_some() {
            self.grpc_routes.refuse("spec.route.grpcHostnames", "GRPCRoute", GATEWAY)?;
        }
        Ok(())
    }
}

async fn presence<K: Resource<DynamicType = ()>>(cluster: &Connection) -> Result<Presence, kube::Error> {
    let (api_version, plural) = (K::api_version(&()), K::plural(&()));
    let groups = cluster.client.list_api_groups().await?.groups;
    let mut versions = groups.iter().flat_map(|group| &group.versions);
    if !versions.any(|version| version.group_version == api_version) {
        return Ok(Presence::Missing);
    }
    let resources = cluster.client.list_api_group_resources(&api_version).await?.resources;
    if !resources.iter().any(|resource| resource.name == plural) {
        return Ok(Presence::Missing);
    }
    let reviews = cluster.namespaces.iter().map(|namespace| may_list::<K>(&cluster.client, namespace));
    let allowed: Vec<bool> = join_all(reviews).await.into_iter().collect::<Result<_, _>>()?;
    Ok(if allowed.into_iter().all(|allowed| allowed) { Presence::Here } else { Presence::Forbidden })
}

async fn may_list<K: Resource<DynamicType = ()>>(
    client: &Client,
    namespace: &str,
) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        group: Some(K::group(&()).into_owned()),
        // An empty one is all of them.
        namespace: Some(namespace.to_owned()).filter(|namespace| namespace != ALL_NAMESPACES),
        resource: Some(K::plural(&()).into_owned()),
        verb: Some("list".to_owned()),
        ..ResourceAttributes::default()
    };
    let spec =
        SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), non_resource_attributes: None };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answered = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answered.status.is_some_and(|status| status.allowed))
}
