//! Custom resources as the API server has them.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A kind of resource.
pub trait Kind: Debug + Clone + PartialEq + Default + Send + Sync + 'static {
    /// Its group.
    const GROUP: &'static str = crate::GROUP;
    /// Its version.
    const VERSION: &'static str = crate::VERSION;
    /// Its group and version.
    const API_VERSION: &'static str = crate::API_VERSION;
    /// Its name.
    const KIND: &'static str;
    /// Its name in paths.
    const PLURAL: &'static str;
    /// Keeps an object until its controller has cleaned up; empty where nothing has to be.
    const FINALIZER: &'static str;
    /// Whether the controller is Slipway, which then writes the status.
    const IS_OWN: bool = true;
    /// What the controller says about an object.
    type Status: Debug + Clone + PartialEq + Default + Serialize + DeserializeOwned + Send + Sync;
}

/// The status of objects of another controller, which is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NotRead {}

/// An object of the cluster.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, bound = "")]
pub struct Object<K: Kind> {
    /// Name, namespace, UID, generation.
    pub metadata: ObjectMeta,
    /// What the user asks for, as the API server has it.
    pub spec: Value,
    /// What the controller has said about it.
    pub status: K::Status,
}

impl<K: Kind> Object<K> {
    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its identity: an object of the same name that is created later has another one.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Whether it is being deleted.
    pub fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it stays until its controller has cleaned up.
    pub fn has_finalizer(&self) -> bool {
        self.finalizers().any(|finalizer| finalizer == K::FINALIZER)
    }

    /// Its finalizers, with or without that of its controller.
    pub fn finalizers_with(&self, own: bool) -> Vec<String> {
        let others = self.finalizers().filter(|finalizer| *finalizer != K::FINALIZER).cloned();
        others.chain(own.then(|| K::FINALIZER.to_owned())).collect()
    }

    fn finalizers(&self) -> impl Iterator<Item = &String> {
        self.metadata.finalizers.iter().flatten()
    }
}

impl<K: Kind> Serialize for Object<K> {
    /// As the API server takes it: with its kind.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct WithKind<'object, S> {
            api_version: &'static str,
            kind: &'static str,
            metadata: &'object ObjectMeta,
            spec: &'object Value,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<&'object S>,
        }
        let Self { metadata, spec, status } = self;
        let status = K::IS_OWN.then_some(status);
        WithKind { api_version: K::API_VERSION, kind: K::KIND, metadata, spec, status }.serialize(serializer)
    }
}

impl<K: Kind> k8s_openapi::Resource for Object<K> {
    const API_VERSION: &'static str = K::API_VERSION;
    const GROUP: &'static str = K::GROUP;
    const KIND: &'static str = K::KIND;
    const VERSION: &'static str = K::VERSION;
    const URL_PATH_SEGMENT: &'static str = K::PLURAL;
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl<K: Kind> k8s_openapi::Metadata for Object<K> {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
