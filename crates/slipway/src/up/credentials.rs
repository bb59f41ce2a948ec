//! `credentials.json`: secrets of a platform on this machine, readable by its owner alone.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::endpoints::write_atomically;

/// What services need to reach the servers. Never logged.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) postgres_url: String,
    pub(crate) nats_url: String,
    pub(crate) s3_endpoint: String,
    pub(crate) s3_bucket: String,
    pub(crate) s3_access_key: String,
    pub(crate) s3_secret_key: String,
}

impl Credentials {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("credentials.json")
    }

    pub(crate) fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let path = Self::path(data_dir);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    pub(crate) fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        write_atomically(&Self::path(data_dir), &serde_json::to_vec_pretty(self)?, 0o600)
    }
}
