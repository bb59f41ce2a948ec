//! Kinds of objects, and what is looked at of them.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use slipway_kubernetes_serving::{GrpcRoute, HttpRoute, ServiceMonitor};

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
pub(super) fn keep<K: Child>(object: &mut K) {
    let mark = object.mark().to_string();
    object.prune();
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.annotations = Some([(MARK.to_owned(), mark)].into());
}

/// The mark of an object that is kept.
pub(super) fn kept_mark(metadata: &ObjectMeta) -> Option<u64> {
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
compared!(Ingress, spec);

/// Objects of other projects, whose `spec` is compared as it is.
macro_rules! foreign {
    ($kind:ty) => {
        impl Child for $kind {
            fn mark(&self) -> u64 {
                hash_of(&(&self.spec, &self.metadata.labels))
            }

            fn prune(&mut self) {
                self.spec = Value::Null;
            }
        }
    };
}
foreign!(HttpRoute);
foreign!(GrpcRoute);
foreign!(ServiceMonitor);
