//! Settings for ModelDeployments.

use anyhow::Context as _;
use slipway_kubernetes_serving::Facts;

use super::custom_metrics::CustomMetricsConfig;

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
        })
    }
}
