//! A real Kubernetes for tests, on one machine and without Docker: etcd, kube-apiserver, controllers,
//! scheduler, and a node with kubelet and containerd in namespaces of its own.
//!
//! The programs are built once per machine from the Go modules that `deploy/test-cluster` pins, see
//! [`Programs`]. A [`Cluster`] ends with the process that started it, also when that process is killed, and
//! leaves nothing.
//!
//! ```no_run
//! use slipway_kubernetes_testkit::{Cluster, Level};
//!
//! // `None` where this machine cannot run the level; the reason is printed.
//! let Some(cluster) = Cluster::shared(Level::Control) else { return };
//! let namespace = cluster.namespace();
//! cluster.kubectl(&["--namespace", namespace.name(), "get", "pods"]).unwrap();
//! ```

mod account;
mod certificates;
mod cluster;
mod command;
mod error;
mod flags;
mod folder;
mod forward;
mod helm;
mod image;
mod kubeconfig;
mod kubectl;
mod kubelet;
mod layout;
mod level;
mod machine;
mod module;
mod names;
mod namespace;
mod network;
mod nodes;
mod oci_registry;
mod once;
mod owner;
mod packages;
mod processes;
mod programs;
mod restart;
mod shared;
mod start;

pub use account::{Request, granted, unlimited_role, used};
pub use cluster::{Cluster, ProcessState};
pub use error::Error;
pub use folder::end_orphan;
pub use forward::Forward;
pub use helm::Helm;
pub use image::{Archive, BUSYBOX_IMAGE, PAUSE_IMAGE};
pub use kubeconfig::Credentials;
pub use level::Level;
pub use machine::{Machine, missing};
pub use module::go_module;
pub use names::{NODE_ADDRESS, NODE_NAME};
pub use namespace::TestNamespace;
pub use nodes::FakeNodes;
pub use oci_registry::OciRegistry;
pub use packages::Packages;
pub use programs::Programs;
pub use shared::{OFF, REQUIRED_LEVEL, left_out};
pub use start::{Options, remove_orphans};

/// Receives progress messages of long operations.
pub type Progress<'progress> = &'progress mut dyn FnMut(&str);
