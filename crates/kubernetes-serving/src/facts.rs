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
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            image: String::new(),
            secret: "slipway-serving".to_owned(),
            gpu_resource: "nvidia.com/gpu".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}
