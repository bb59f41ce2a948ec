//! What a pod needs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a pod needs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// CPU cores that are reserved [default: 0.1].
    pub cpus: Option<f64>,
    /// Memory that is reserved, and its limit, in bytes [default: 256 MiB are reserved, without a limit].
    pub memory_bytes: Option<u64>,
    /// Number of GPUs [default: 0].
    pub gpus: u32,
    /// Resource that `gpus` counts, e.g. `nvidia.com/mig-1g.5gb` [default: the operator's setting].
    pub gpu_resource: Option<String>,
    /// ResourceClaimTemplate of the namespace by which each pod gets its GPUs (dynamic resource allocation),
    /// in place of `gpus`.
    pub gpu_claim_template: Option<String>,
}

/// Which versions run in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Layout {
    /// All of them: a canary needs no further pods and no second GPU.
    #[default]
    Together,
    /// One: each version has its own pods, and the routes split the traffic. For models of which a pod cannot
    /// hold two. The pods of the version before stay for a rollback until another version is rolled out.
    Separate,
}
