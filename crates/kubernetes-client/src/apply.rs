//! Objects as a service wants them.

use std::fmt::Debug;

use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::watch::api;

/// Makes an object, or makes it again what it is to be: by server-side apply, so that fields which others
/// have set stay theirs. A field of this manager that somebody else has changed is taken back.
///
/// # Errors
/// The API server rejects it, or is unreachable.
pub async fn apply<K>(client: &Client, manager: &str, namespace: &str, object: &K) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let parameters = PatchParams::apply(manager).force();
    api::<K>(client, namespace).patch(&object.name_any(), &parameters, &Patch::Apply(object)).await
}

/// Deletes an object, with what belongs to it; that there is none is no error.
///
/// # Errors
/// The API server rejects it, or is unreachable.
pub async fn delete<K>(client: &Client, namespace: &str, name: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    match api::<K>(client, namespace).delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sets the finalizers of this version of an object. Returns the object with them.
///
/// # Errors
/// The API server rejects it, e.g. because the object was changed in the meantime, or is unreachable.
pub async fn set_finalizers<K>(
    client: &Client,
    manager: &str,
    object: &K,
    finalizers: &[String],
) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
    let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    let namespace = object.namespace().unwrap_or_default();
    api::<K>(client, &namespace).patch(&object.name_any(), &parameters, &Patch::Merge(&patch)).await
}
