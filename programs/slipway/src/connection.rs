//! The platform that a command works with.

use std::path::PathBuf;

use clap::Args;

/// Id of the option `--data-dir` of `slipway` itself.
pub(crate) const PLATFORM_DATA_DIR: &str = "platform_data_dir";

/// Location of a running platform, and the form of the output.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Data directory of the platform; its `endpoints.json` holds the addresses of all services.
    // The launcher has an option of that name for a folder of its own.
    #[arg(id = PLATFORM_DATA_DIR, long = "data-dir", global = true, env = "SLIPWAY_HOME",
          default_value = ".slipway", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Prints JSON instead of tables; times stay as the services return them.
    #[arg(long, global = true)]
    pub json: bool,
    /// An installation in a Kubernetes cluster.
    #[command(flatten)]
    pub kube: KubeOptions,
}

/// An installation in a Kubernetes cluster, which is reached through its API server: no address, no Ingress
/// and no `kubectl port-forward` is necessary. Any of these options selects the cluster of the kubeconfig in
/// place of the platform in the data directory.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubeOptions {
    /// Context of the kubeconfig [default: the current context].
    #[arg(long, global = true, env = "SLIPWAY_KUBE_CONTEXT", value_name = "NAME")]
    pub kube_context: Option<String>,
    /// Namespace of the installation [default: that of the context].
    #[arg(long, global = true, env = "SLIPWAY_KUBE_NAMESPACE", value_name = "NAME")]
    pub kube_namespace: Option<String>,
    /// Release of the Helm chart, if the namespace has several.
    #[arg(long, global = true, env = "SLIPWAY_KUBE_RELEASE", value_name = "NAME")]
    pub kube_release: Option<String>,
    /// Uses the administrator's token from the Secret of the release, which requires the right to read it.
    /// SLIPWAY_TOKEN takes precedence.
    #[arg(long, global = true)]
    pub kube_admin_token: bool,
}

impl KubeOptions {
    /// Whether the platform is in a cluster.
    pub(crate) const fn is_set(&self) -> bool {
        self.kube_context.is_some()
            || self.kube_namespace.is_some()
            || self.kube_release.is_some()
            || self.kube_admin_token
    }
}
