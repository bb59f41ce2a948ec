//! Names and labels of the objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, ModelDeploymentKind};
use slipway_kubernetes_resources::{API_VERSION, Kind as _};

/// Value of the label `app.kubernetes.io/managed-by`, and the field manager of server-side apply.
pub const MANAGED_BY: &str = "slipway-rollout-controller";
pub(crate) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
pub(crate) const NAME_LABEL: &str = "app.kubernetes.io/name";
const SERVING: &str = "slipway-serving";
/// Name of the serving pool of a namespace, and of its objects.
pub const POOL: &str = "slipway-serving-pool";
/// Label of a Service that leads to the pool of its namespace.
pub const POOLED_LABEL: &str = "slipway.dev/pooled";
/// Label of the objects of one version with the name of the ModelDeployment, where versions have pods of
/// their own.
pub(crate) const VERSION_OF_LABEL: &str = "slipway.dev/version-of";
/// Label with the name of the ModelDeployment that an object belongs to.
pub const OWNER_LABEL: &str = "slipway.dev/model-deployment";

/// Selects the objects of all ModelDeployments.
pub fn selector() -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY},{OWNER_LABEL}")
}

/// Selects the pods of a ModelDeployment.
pub fn pod_selector(object: &ModelDeployment) -> String {
    format!("{}={}", if object.is_separate() { VERSION_OF_LABEL } else { OWNER_LABEL }, object.name())
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
    /// The Service by which Envoys find the pods, whose name and labels are of the same kind.
    #[must_use]
    pub fn peers(&self) -> Self {
        Self { namespace: self.namespace.clone(), name: peers_name(&self.name) }
    }

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

/// The ModelDeployment that pods belong to, whichever of its versions they serve.
pub fn base_of(metadata: &ObjectMeta) -> Option<Owner> {
    let name = metadata.labels.as_ref()?.get(VERSION_OF_LABEL);
    match name {
        Some(name) => Some(Owner { namespace: metadata.namespace.clone()?, name: name.clone() }),
        None => owner_of(metadata),
    }
}

/// What the objects are made for.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Their name.
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// The ModelDeployment; `None` for the pool of a namespace.
    base: Option<Base>,
}

#[derive(Debug, Clone)]
struct Base {
    name: String,
    uid: String,
    deployment: String,
}

impl From<&ModelDeployment> for Part {
    /// All of a ModelDeployment.
    fn from(object: &ModelDeployment) -> Self {
        let base = Base {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            deployment: object.deployment(),
        };
        Self { name: base.name.clone(), namespace: object.namespace().to_owned(), base: Some(base) }
    }
}

impl Part {
    /// One version of a ModelDeployment, which has pods of its own.
    pub(crate) fn version(object: &ModelDeployment, version: &str) -> Self {
        Self { name: version_name(object.name(), version), ..Self::from(object) }
    }

    /// The pool of a namespace.
    pub(crate) fn pool(namespace: &str) -> Self {
        Self { name: POOL.to_owned(), namespace: namespace.to_owned(), base: None }
    }

    /// The Service by which Envoys find the pods.
    pub(crate) fn peers(&self) -> Self {
        Self { name: peers_name(&self.name), ..self.clone() }
    }

    /// What the pods answer for, as serving takes it: the deployment, which is also called as the
    /// ModelDeployment is, or for a pool all deployments of the namespace that have scaled to zero.
    pub(crate) fn deployments(&self) -> String {
        match &self.base {
            None => format!("*={}_*", self.namespace),
            Some(base) => format!("{}={}", base.name, base.deployment),
        }
    }

    /// The names by which the pods are called: that of the ModelDeployment, and that of the part.
    pub(crate) fn called(&self) -> Vec<&str> {
        let base = self.base.as_ref().map(|base| base.name.as_str()).filter(|base| *base != self.name);
        base.into_iter().chain([self.name.as_str()]).collect()
    }
}

/// Name of the objects of a version that has pods of its own.
pub fn version_name(name: &str, version: &str) -> String {
    format!("{name}-v{version}")
}

/// Name of the Service by which the Envoys of pods find them all, by the name of the pods' objects.
fn peers_name(name: &str) -> String {
    format!("{name}-pods")
}

/// Label of pods with an Envoy.
pub(crate) fn envoy_label() -> (String, String) {
    ("slipway.dev/envoy".to_owned(), "true".to_owned())
}

/// The labels by which the pods are found; they never change.
pub(crate) fn identity(part: &Part) -> BTreeMap<String, String> {
    identity_of(&part.name)
}

/// The labels by which the pods of this name are found.
pub(crate) fn identity_of(name: &str) -> BTreeMap<String, String> {
    [(OWNER_LABEL.to_owned(), name.to_owned())].into()
}

/// The labels of the objects.
pub(crate) fn labels(part: &Part) -> BTreeMap<String, String> {
    let mut labels = identity(part);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels.insert(NAME_LABEL.to_owned(), SERVING.to_owned());
    if let Some(base) = part.base.as_ref().filter(|base| base.name != part.name) {
        labels.insert(VERSION_OF_LABEL.to_owned(), base.name.clone());
    }
    labels
}

/// The metadata of an object of this name, which goes with its ModelDeployment.
pub(crate) fn metadata(part: &Part) -> ObjectMeta {
    let owner = |base: &Base| OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: ModelDeploymentKind::KIND.to_owned(),
        name: base.name.clone(),
        uid: base.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        name: Some(part.name.clone()),
        namespace: Some(part.namespace.clone()),
        labels: Some(labels(part)),
        // A pool belongs to no single object.
        owner_references: part.base.as_ref().map(|base| vec![owner(base)]),
        ..ObjectMeta::default()
    }
}
