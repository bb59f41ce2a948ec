//! Names and labels of the objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, ModelDeploymentKind};
use slipway_kubernetes_resources::{API_VERSION, Kind as _};

/// Value of the label `app.kubernetes.io/managed-by`, and the field manager of server-side apply.
pub const MANAGED_BY: &str = "slipway-rollout-controller";
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
const NAME_LABEL: &str = "app.kubernetes.io/name";
const SERVING: &str = "slipway-serving";
/// Name of the serving pool of a namespace, and of its objects.
pub const POOL: &str = "slipway-serving-pool";
/// Label of a Service that leads to the pool of its namespace.
pub const POOLED_LABEL: &str = "slipway.dev/pooled";
/// Label with the name of the ModelDeployment that an object belongs to.
pub const OWNER_LABEL: &str = "slipway.dev/model-deployment";

/// Selects the objects of all ModelDeployments.
pub fn selector() -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY},{OWNER_LABEL}")
}

/// Selects the pods of a ModelDeployment.
pub fn pod_selector(object: &ModelDeployment) -> String {
    format!("{OWNER_LABEL}={}", object.name())
}

/// Which ModelDeployment it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// The pool of a namespace, whose objects are named and labelled as those of a ModelDeployment are.
    pub fn pool_of(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: POOL.to_owned() }
    }
}

impl From<&ModelDeployment> for Owner {
    fn from(object: &ModelDeployment) -> Self {
        Self { namespace: object.namespace().to_owned(), name: object.name().to_owned() }
    }
}

/// The ModelDeployment that an object belongs to.
pub fn owner_of(metadata: &ObjectMeta) -> Option<Owner> {
    let name = metadata.labels.as_ref()?.get(OWNER_LABEL)?;
    Some(Owner { namespace: metadata.namespace.clone()?, name: name.clone() })
}

/// The labels by which the pods are found; they never change.
pub(crate) fn identity(object: &ModelDeployment) -> BTreeMap<String, String> {
    identity_of(object.name())
}

/// The labels by which the pods of this name are found.
pub(crate) fn identity_of(name: &str) -> BTreeMap<String, String> {
    [(OWNER_LABEL.to_owned(), name.to_owned())].into()
}

/// What the pods answer for, as serving takes it: the deployment, which is also called as the object is, or
/// for a pool all deployments of the namespace that have scaled to zero.
pub(crate) fn deployments(object: &ModelDeployment) -> String {
    match object.name() {
        POOL => format!("*={}_*", object.namespace()),
        name => format!("{name}={}", object.deployment()),
    }
}

/// The labels of the objects.
pub(crate) fn labels(object: &ModelDeployment) -> BTreeMap<String, String> {
    let mut labels = identity(object);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels.insert(NAME_LABEL.to_owned(), SERVING.to_owned());
    labels
}

/// The metadata of an object of the same name, which goes with its ModelDeployment.
pub(crate) fn metadata(object: &ModelDeployment) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: ModelDeploymentKind::KIND.to_owned(),
        name: object.name().to_owned(),
        uid: object.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        name: Some(object.name().to_owned()),
        namespace: Some(object.namespace().to_owned()),
        labels: Some(labels(object)),
        // A pool belongs to no single object.
        owner_references: (object.name() != POOL).then(|| vec![owner]),
        ..ObjectMeta::default()
    }
}
