//! Where things are in the folder of a cluster.

use std::path::{Path, PathBuf};

/// Where things are in a cluster's folder.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    folder: PathBuf,
}

impl Layout {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn etcd_socket(&self) -> PathBuf {
        self.path("etcd.sock")
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.path("keys").join(format!("{user}.kubeconfig"))
    }

    pub(crate) fn log(&self, program: &str) -> PathBuf {
        self.path("logs").join(format!("{program}.log"))
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.path("logs/audit.log")
    }

    pub(crate) fn script(&self, name: &str) -> PathBuf {
        self.path("scripts").join(name)
    }

    /// Facts about the cluster, written when it is ready.
    pub(crate) fn facts(&self) -> PathBuf {
        self.path("cluster.json")
    }
}
