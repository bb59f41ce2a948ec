//! What a job asks of Kubernetes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_domain::training;
use utoipa::ToSchema;

use crate::rest::convert::{each, mirror, mirror_enum, mirror_nested, option};

/// Fields that hold an object of a type of Kubernetes, as `Schema.field`.
pub const KUBERNETES_OBJECTS: [&str; 5] = [
    "KubernetesSpec.affinity",
    "KubernetesSpec.pod_security_context",
    "KubernetesSpec.security_context",
    "KubernetesSpec.tolerations",
    "KubernetesSpec.topology_spread_constraints",
];

/// What a job asks of Kubernetes. Fields that hold a type of Kubernetes' own are validated by its API server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesSpec {
    /// Container image that has the command. It needs no part of Slipway.
    #[schema(example = "registry.example.com/train:1.4")]
    pub image: String,
    /// When to pull the image [default: `Always` for the tag `latest`, else `IfNotPresent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Names of Secrets with credentials of the image's registry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// Processes of a distributed job by role: `chief` or `master`, `worker`, `ps`, `evaluator`
    /// [default: one process].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(example = json!({"worker": 4}))]
    pub replicas: BTreeMap<String, u32>,
    /// Port at which the processes of a distributed job reach each other [default: 29500].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Namespace of the pods; one of the launcher's namespaces [default: the first of them].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Absolute path of the image's directory that the command runs in [default: the work directory].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Secrets and ConfigMaps of which each entry becomes an environment variable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvSource>,
    /// Environment variables with one entry of a Secret or ConfigMap each: name → entry.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env_refs: BTreeMap<String, EnvRef>,
    /// Volumes of the command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Size of `/dev/shm`, in bytes [default: 64 MiB].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
    /// Limit of the storage on the node for work directory and logs, in bytes [default: unlimited].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_bytes: Option<u64>,
    /// Kind of GPU, by the name of one of the launcher's presets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "a100")]
    pub gpu_type: Option<String>,
    /// Resource that `resources.gpus` counts, e.g. `nvidia.com/mig-1g.5gb` [default: the launcher's setting].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_resource: Option<String>,
    /// Name of a ResourceClaimTemplate (dynamic resource allocation), instead of `resources.gpus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_claim_template: Option<String>,
    /// ServiceAccount of the pods. Its token is mounted only if this is set. [default: `default`, no token]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Labels of the Job and its pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Job and its pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the pods, each a `Toleration` of Kubernetes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub tolerations: Vec<Value>,
    /// An `Affinity` of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub affinity: Option<Value>,
    /// Each a `TopologySpreadConstraint` of Kubernetes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub topology_spread_constraints: Vec<Value>,
    /// PriorityClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// Whether the pods may run on spot nodes, by the launcher's preset [default: false].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spot: bool,
    /// LocalQueue of Kueue that admits the job [default: none].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// A `SecurityContext` of Kubernetes for the command's container [default: a restricted one].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub security_context: Option<Value>,
    /// A `PodSecurityContext` of Kubernetes [default: a restricted one].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub pod_security_context: Option<Value>,
    /// Time after which Kubernetes deletes the Job of an attempt that has ended, in seconds
    /// [default: the launcher's setting].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
}

/// When to pull an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ImagePullPolicy {
    /// Before each start.
    Always,
    /// If the node does not have it.
    IfNotPresent,
    /// Never; the node must have it.
    Never,
}

/// A Secret or ConfigMap of which each entry becomes an environment variable; exactly one of `secret` and
/// `config_map` is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnvSource {
    /// Name of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Name of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// Prefix of each variable's name [default: none].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// An entry of a Secret or ConfigMap; exactly one of `secret` and `config_map` is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnvRef {
    /// Name of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Name of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// Key of the entry.
    pub key: String,
}

/// A volume of the command; exactly one of `claim`, `secret`, `config_map` and `empty_dir` is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Volume {
    /// Absolute path at which the command finds it.
    pub mount_path: String,
    /// Path within the volume [default: its root].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub_path: String,
    /// Whether it is read-only [default: false].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Name of a PersistentVolumeClaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Name of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Name of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// An empty directory with the lifetime of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
}

/// An empty directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmptyDir {
    /// Whether it is in memory, which counts towards the command's limit [default: false].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
    /// Size limit, in bytes [default: unlimited].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
}

mirror_enum!(ImagePullPolicy = training::ImagePullPolicy { Always, IfNotPresent, Never });
mirror!(EnvSource = training::EnvSource { secret, config_map, prefix });
mirror!(EnvRef = training::EnvRef { secret, config_map, key });
mirror!(EmptyDir = training::EmptyDir { memory, limit_bytes });

mirror_nested!(Volume = training::Volume { mount_path, sub_path, read_only, claim, secret, config_map }
    empty_dir: option);
mirror_nested!(KubernetesSpec = training::KubernetesSpec {
    image, image_pull_secrets, replicas, port, namespace, working_dir, shm_bytes, ephemeral_storage_bytes,
    gpu_type, gpu_resource, gpu_claim_template, service_account, labels, annotations, node_selector,
    tolerations, affinity, topology_spread_constraints, priority_class, spot, queue, security_context,
    pod_security_context, ttl_s,
} image_pull_policy: option, env_from: each, env_refs: values, volumes: each);

fn values<T, U: From<T>>(entries: BTreeMap<String, T>) -> BTreeMap<String, U> {
    entries.into_iter().map(|(name, value)| (name, U::from(value))).collect()
}
