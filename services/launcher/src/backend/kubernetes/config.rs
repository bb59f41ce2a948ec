//! Settings for jobs on Kubernetes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use slipway_kubernetes_jobs::{Facts, Presets};
use uuid::Uuid;

/// Settings for jobs on Kubernetes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Jobs on Kubernetes")]
pub struct KubernetesConfig {
    /// Where this launcher runs jobs: as processes on its own machine, or as Jobs of the Kubernetes cluster
    /// of the kubeconfig or of its own pod.
    #[arg(long, env = "SLIPWAY_BACKEND", value_enum, default_value_t = BackendName::Local,
          value_name = "BACKEND")]
    pub backend: BackendName,
    /// Namespaces that jobs may name, separated by commas. A job that names none runs in the first one.
    /// [default: the namespace of the kubeconfig or of the launcher's pod]
    #[arg(long, env = "SLIPWAY_KUBERNETES_NAMESPACES", value_delimiter = ',', value_name = "NAMES")]
    pub kubernetes_namespaces: Vec<String>,
    /// Name of the cluster. Launchers that share a database but not a cluster need different names.
    #[arg(long, env = "SLIPWAY_KUBERNETES_CLUSTER", default_value = "kubernetes", value_name = "NAME")]
    pub kubernetes_cluster: String,
    /// Container image that has the agent as a static binary; required with `--backend kubernetes`.
    #[arg(long, env = "SLIPWAY_KUBERNETES_AGENT_IMAGE", value_name = "IMAGE")]
    pub kubernetes_agent_image: Option<String>,
    /// Path of the agent in its image.
    #[arg(
        long,
        env = "SLIPWAY_KUBERNETES_AGENT_PATH",
        default_value = "/slipway-agent",
        value_name = "PATH"
    )]
    pub kubernetes_agent_path: String,
    /// Resource that the `resources.gpus` of a job counts, unless the job names one.
    #[arg(
        long,
        env = "SLIPWAY_KUBERNETES_GPU_RESOURCE",
        default_value = "nvidia.com/gpu",
        value_name = "NAME"
    )]
    pub kubernetes_gpu_resource: String,
    /// Time after which Kubernetes deletes the Job of an attempt that has ended, in seconds, unless the job
    /// says otherwise.
    #[arg(long, env = "SLIPWAY_KUBERNETES_JOB_TTL_S", default_value_t = 3_600, value_name = "SECONDS")]
    pub kubernetes_job_ttl_s: u32,
    /// Time after which a distributed job that finds nodes for only some of its processes releases them and
    /// is queued again, in seconds.
    #[arg(long, env = "SLIPWAY_KUBERNETES_GANG_TIMEOUT_S", default_value_t = 60, value_name = "SECONDS")]
    pub kubernetes_gang_timeout_s: u32,
    /// YAML file with node selectors, tolerations and affinities for jobs with GPUs (`gpu`), by kind of GPU
    /// (`gpu_types`), and on spot nodes (`spot`). [default: none]
    #[arg(long, env = "SLIPWAY_KUBERNETES_PRESETS", value_name = "FILE")]
    pub kubernetes_presets: Option<PathBuf>,
    /// Whether to run the TrainingJobs (slipway.dev/v1alpha1) of these namespaces. Every account that
    /// may create one there can run any job.
    #[arg(long, env = "SLIPWAY_KUBERNETES_TRAINING_JOBS", default_value_t = false,
          action = clap::ArgAction::Set, value_name = "BOOL")]
    pub kubernetes_training_jobs: bool,
}

/// Where a launcher runs jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendName {
    /// As processes on the launcher's own machine.
    Local,
    /// As Jobs of a Kubernetes cluster.
    Kubernetes,
}

impl KubernetesConfig {
    /// What the settings say about the cluster.
    ///
    /// # Errors
    /// No image is set, or the file of the presets cannot be read.
    pub(super) fn facts(&self, installation: Uuid, namespace: String) -> anyhow::Result<Facts> {
        let agent_image = self.kubernetes_agent_image.clone().filter(|image| !image.is_empty());
        Ok(Facts {
            installation: installation.to_string(),
            namespace,
            agent_image: agent_image
                .context("--kubernetes-agent-image: required with --backend kubernetes, and not set")?,
            agent_path: self.kubernetes_agent_path.clone(),
            gpu_resource: self.kubernetes_gpu_resource.clone(),
            ttl_s: self.kubernetes_job_ttl_s,
            presets: self.kubernetes_presets.as_deref().map_or_else(|| Ok(Presets::default()), presets)?,
        })
    }
}

fn presets(path: &Path) -> anyhow::Result<Presets> {
    let within = || format!("--kubernetes-presets: cannot read {}", path.display());
    let text = std::fs::read_to_string(path).with_context(within)?;
    serde_saphyr::from_str(&text).with_context(within)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        config: KubernetesConfig,
    }

    fn config(arguments: &[&str]) -> KubernetesConfig {
        let program = ["launcher"].into_iter().chain(arguments.iter().copied());
        Arguments::parse_from(program).config
    }

    fn facts(arguments: &[&str]) -> Result<Facts, String> {
        let facts = config(arguments).facts(Uuid::nil(), "training".to_owned());
        facts.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn an_agent_image_is_required_and_presets_are_read() {
        let refused = facts(&[]).unwrap_err();
        assert!(refused.starts_with("--kubernetes-agent-image: required"), "{refused}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("presets.yaml");
        std::fs::write(&file, "gpu_types:\n  a100:\n    node_selector: {gpu-type: a100}\n").unwrap();
        let file = file.to_str().unwrap();
        let image = ["--kubernetes-agent-image", "agent:1"];
        let known = facts(&[&image[..], &["--kubernetes-presets", file]].concat()).unwrap();
        assert_eq!(known.presets.gpu_types["a100"].node_selector["gpu-type"], "a100");
        std::fs::write(file, "gpu_type: {}").unwrap();
        let refused = facts(&[&image[..], &["--kubernetes-presets", file]].concat()).unwrap_err();
        assert!(refused.contains("presets.yaml") && refused.contains("gpu_type"), "{refused}");
    }
}
