//! What the operator knows about its cluster.

/// The operator's settings for serving pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Image of serving, for objects that name none.
    pub image: String,
    /// Secret, in the namespace of each object, with the settings that all serving pods share: addresses and
    /// credentials of NATS, the registry and the artifact store, as environment variables.
    pub secret: String,
    /// Resource that `resources.gpus` counts where an object names none, e.g. `nvidia.com/gpu`.
    pub gpu_resource: String,
    /// Domain of the cluster's names, e.g. `cluster.local`.
    pub cluster_domain: String,
    /// PersistentVolumeClaim, in the namespace of each object, of the model cache that pods of a node share;
    /// `None`: each pod has its own, which ends with it.
    pub cache_claim: Option<String>,
    /// Image of Envoy, for objects that name none.
    pub envoy_image: String,
    /// Whether a `podTemplate` may ask for what the restricted Pod Security Standard forbids.
    pub allow_privileged: bool,
    /// Pods of the pool of a namespace.
    pub pool_replicas: u32,
    /// Memory of each of them, in bytes.
    pub pool_memory_bytes: u64,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            image: String::new(),
            secret: "slipway-serving".to_owned(),
            gpu_resource: "nvidia.com/gpu".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            cache_claim: None,
            envoy_image: String::new(),
            allow_privileged: false,
            pool_replicas: 1,
            pool_memory_bytes: 2 << 30,
        }
    }
}
