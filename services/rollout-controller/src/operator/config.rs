//! Settings for ModelDeployments.

use anyhow::Context as _;
use slipway_kubernetes_serving::Facts;

use super::custom_metrics::CustomMetricsConfig;

/// Less does not hold ONNX Runtime and a model.
const MIN_POOL_MEMORY_BYTES: u64 = 128 << 20;

/// Settings for ModelDeployments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "ModelDeployments on Kubernetes")]
pub struct OperatorConfig {
    /// Whether to run the ModelDeployments (slipway.dev/v1alpha1) of the Kubernetes cluster of the kubeconfig
    /// or of this process's own pod. Every account that may create one there can deploy any model.
    #[arg(long, env = "SLIPWAY_OPERATOR", default_value_t = false, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub operator: bool,
    /// Namespaces of ModelDeployments, separated by commas; `*`: all of the cluster. [default: the namespace
    /// of the kubeconfig or of the pod]
    #[arg(long, env = "SLIPWAY_OPERATOR_NAMESPACES", value_delimiter = ',', value_name = "NAMES")]
    pub operator_namespaces: Vec<String>,
    /// Container image of serving; required with `--operator`.
    #[arg(long, env = "SLIPWAY_OPERATOR_SERVING_IMAGE", value_name = "IMAGE")]
    pub operator_serving_image: Option<String>,
    /// Secret in the namespace of each ModelDeployment with the settings that all serving pods share, as
    /// environment variables: SLIPWAY_NATS_URL, SLIPWAY_REGISTRY_URL, SLIPWAY_S3_ENDPOINT, credentials.
    #[arg(
        long,
        env = "SLIPWAY_OPERATOR_SERVING_SECRET",
        default_value = "slipway-serving",
        value_name = "NAME"
    )]
    pub operator_serving_secret: String,
    /// Resource that the `resources.gpus` of a ModelDeployment counts, unless it names one.
    #[arg(
        long,
        env = "SLIPWAY_OPERATOR_GPU_RESOURCE",
        default_value = "nvidia.com/gpu",
        value_name = "NAME"
    )]
    pub operator_gpu_resource: String,
    /// Domain of the cluster's names.
    #[arg(
        long,
        env = "SLIPWAY_OPERATOR_CLUSTER_DOMAIN",
        default_value = "cluster.local",
        value_name = "DOMAIN"
    )]
    pub operator_cluster_domain: String,
    /// PersistentVolumeClaim in the namespace of each ModelDeployment of a model cache that the pods of a
    /// node share. Before serving starts, an init container brings the versions there. [default: each pod has
    /// a cache of its own]
    #[arg(long, env = "SLIPWAY_OPERATOR_CACHE_CLAIM", value_name = "NAME")]
    pub operator_cache_claim: Option<String>,
    /// Image of Envoy, for ModelDeployments that ask for one as a sidecar.
    #[arg(
        long,
        env = "SLIPWAY_OPERATOR_ENVOY_IMAGE",
        default_value = "docker.io/envoyproxy/envoy:distroless-v1.34-latest",
        value_name = "IMAGE"
    )]
    pub operator_envoy_image: String,
    /// Whether the `podTemplate` of a ModelDeployment may ask for what the restricted Pod Security Standard
    /// forbids, such as privileged containers and volumes of the node.
    #[arg(long, env = "SLIPWAY_OPERATOR_ALLOW_PRIVILEGED_PODS", default_value_t = false,
          action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true",
          value_name = "BOOL")]
    pub operator_allow_privileged_pods: bool,
    /// Number of pods of the serving pool of a namespace, which answers for ModelDeployments that have scaled
    /// to zero. A namespace without such ModelDeployments has no pool.
    #[arg(long, env = "SLIPWAY_OPERATOR_POOL_REPLICAS", default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub operator_pool_replicas: u32,
    /// Memory of each pod of the pool, in bytes. Versions take up to three quarters of it; least recently
    /// used ones are unloaded.
    #[arg(long, env = "SLIPWAY_OPERATOR_POOL_MEMORY_BYTES", default_value_t = 2 << 30, value_name = "BYTES",
          value_parser = clap::value_parser!(u64).range(MIN_POOL_MEMORY_BYTES..))]
    pub operator_pool_memory_bytes: u64,
    /// Whether to run InferenceServices of KServe (serving.kserve.io/v1beta1), too, each as a
    /// ModelDeployment.
    #[arg(long, env = "SLIPWAY_KSERVE_COMPAT", default_value_t = false, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", requires = "operator")]
    pub kserve_compat: bool,
    /// URL of the drift monitor, for the monitors of ModelDeployments. [default: none]
    #[arg(long, env = "SLIPWAY_DRIFT_MONITOR_URL", value_name = "URL")]
    pub drift_monitor_url: Option<String>,
    /// The custom metrics API.
    #[command(flatten)]
    pub custom_metrics: CustomMetricsConfig,
}

impl OperatorConfig {
    /// What the settings say about the cluster.
    ///
    /// # Errors
    /// No image is set.
    pub(crate) fn facts(&self) -> anyhow::Result<Facts> {
        let image = self.operator_serving_image.clone().filter(|image| !image.is_empty());
        Ok(Facts {
            image: image.context("--operator-serving-image: required with --operator, and not set")?,
            secret: self.operator_serving_secret.clone(),
            gpu_resource: self.operator_gpu_resource.clone(),
            cluster_domain: self.operator_cluster_domain.clone(),
            cache_claim: self.operator_cache_claim.clone().filter(|claim| !claim.is_empty()),
            envoy_image: self.operator_envoy_image.clone(),
            allow_privileged: self.operator_allow_privileged_pods,
            pool_replicas: self.operator_pool_replicas,
            pool_memory_bytes: self.operator_pool_memory_bytes,
        })
    }
}
