//! An installation in a Kubernetes cluster: how the kubeconfig leads to it.

mod cluster;
mod forward;
mod installation;

pub(crate) use cluster::Cluster;
pub(crate) use installation::{Reached, reach};
