//! `endpoints.json`: where everything of a platform on this machine is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Addresses of a platform. Those of Postgres and NATS hold passwords: the file is readable by its owner alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// MLflow REST, REST v1 and gRPC of the registry.
    pub registry: String,
    /// REST and gRPC of the launcher.
    pub launcher: String,
    /// Open Inference Protocol over REST.
    pub serving_http: String,
    /// Open Inference Protocol over gRPC.
    pub serving_grpc: String,
    /// Prometheus metrics of serving.
    pub serving_metrics: String,
    /// REST and gRPC of the drift monitor.
    pub drift_monitor: String,
    /// REST and gRPC of the rollout controller.
    pub rollout_controller: String,
    /// NATS, with the user `reader` and its password.
    pub nats: String,
    /// S3 endpoint.
    pub s3: String,
    /// Postgres, with the superuser and its password.
    pub postgres: String,
    /// Process ids by part, of those that this platform started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pids: BTreeMap<String, u32>,
}

impl Endpoints {
    /// Path of the file in a data directory.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("endpoints.json")
    }

    /// Reads the file.
    ///
    /// # Errors
    /// There is none, or it is not ours.
    pub fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let path = Self::path(data_dir);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}: is a platform running there? Start one with `slipway up --data-dir {}`",
                path.display(),
                data_dir.display()
            )
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} is not an endpoints file", path.display()))
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        write_atomically(&Self::path(data_dir), &serde_json::to_vec_pretty(self)?, 0o600)
    }

    /// Addresses with their names, in the order in which people look for them.
    pub fn named(&self) -> [(&'static str, &str); 10] {
        [
            ("registry", &self.registry),
            ("launcher", &self.launcher),
            ("serving_http", &self.serving_http),
            ("serving_grpc", &self.serving_grpc),
            ("serving_metrics", &self.serving_metrics),
            ("drift_monitor", &self.drift_monitor),
            ("rollout_controller", &self.rollout_controller),
            ("nats", &self.nats),
            ("s3", &self.s3),
            ("postgres", &self.postgres),
        ]
    }
}

/// Writes a file beside its place and renames it, so that a reader sees the old one or the new one.
///
/// # Errors
/// The disk refuses.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let part = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&part);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
