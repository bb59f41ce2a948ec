//! `cargo xtask cluster`: the Kubernetes of the tests, for a person.

mod commands;
mod keeper;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use slipway_kubernetes_testkit::Level;

use crate::build::root;

/// Arguments of `cargo xtask cluster`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Name of the cluster; clusters with different names run side by side
    #[arg(long, global = true, default_value = "default", value_parser = name)]
    name: String,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ClusterCommand {
    /// Starts a cluster and returns when it works. The first time, it builds Kubernetes, which takes Go, a Go
    /// module proxy and about 20 minutes of one CPU.
    Up {
        /// How much runs: `api` (etcd, kube-apiserver), `control` (adds controllers, scheduler and fake
        /// nodes), `node` (adds kubelet and containerd; requires root)
        #[arg(long, default_value = "control")]
        level: Level,
        /// Logs every request to kube-apiserver in the cluster's folder, as logs/audit.log
        #[arg(long)]
        audit: bool,
    },
    /// Ends the cluster and deletes everything that it wrote.
    Down,
    /// Shows the level, the API server's URL, the kubeconfig, processes and nodes.
    Status,
    /// Runs a command with `KUBECONFIG` and kubectl for the cluster; at level `node`, on the node. Returns
    /// its exit status.
    Run {
        /// The command and its arguments, e.g. `-- kubectl get pods`.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Builds Kubernetes and downloads the packages of the node into the cache, if they are not there.
    Build,
    /// Owns a cluster until it is killed.
    #[command(hide = true)]
    Keep {
        /// The level.
        #[arg(long)]
        level: Level,
        /// Logs every request.
        #[arg(long)]
        audit: bool,
    },
}

/// Runs one command.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let folder = folder(&options.name);
    match &options.command {
        ClusterCommand::Up { level, audit } => commands::up(&folder, *level, *audit, &options.name),
        ClusterCommand::Down => commands::down(&folder),
        ClusterCommand::Status => commands::status(&folder),
        ClusterCommand::Run { command } => commands::run(&folder, command),
        ClusterCommand::Build => commands::build(),
        ClusterCommand::Keep { level, audit } => keeper::keep(&folder, *level, *audit),
    }
}

/// In the checkout, so that clusters of two checkouts never meet.
fn folder(name: &str) -> PathBuf {
    root().join("target/clusters").join(name)
}

fn name(text: &str) -> Result<String, String> {
    const LONGEST: usize = 20;
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '-';
    if (1..=LONGEST).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("expected at most {LONGEST} letters, digits and `-`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_part_of_a_path() {
        assert_eq!(name("gpu-2").as_deref(), Ok("gpu-2"));
        for refused in ["", "../x", "a b", "a-name-that-is-too-long"] {
            assert!(name(refused).unwrap_err().contains("expected at most 20"), "{refused}");
        }
    }
}
