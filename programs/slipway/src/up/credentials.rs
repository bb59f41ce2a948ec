//! `credentials.json`: secrets of a platform on this machine, readable by its owner alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::endpoints::write_atomically;

/// How the platform's owner and its services reach the servers. Never logged.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Credentials {
    /// Of the superuser, or of the one user of a server of one's own.
    pub(crate) postgres_url: String,
    /// Of the user that reads events and publishes nothing, or of the one user of a server of one's own.
    pub(crate) nats_url: String,
    /// Of the user that manages streams, or of the one user of a server of one's own.
    #[serde(default)]
    pub(crate) nats_admin_url: String,
    /// URLs with which a service reaches Postgres, by the service's name; absent for a server of one's own.
    pub(crate) postgres_urls: BTreeMap<String, String>,
    /// The same for NATS.
    pub(crate) nats_urls: BTreeMap<String, String>,
    pub(crate) s3_endpoint: String,
    pub(crate) s3_bucket: String,
    pub(crate) s3_access_key: String,
    pub(crate) s3_secret_key: String,
}

impl Credentials {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("credentials.json")
    }

    /// The URL of Postgres for a service.
    pub(crate) fn postgres_of(&self, service: &str) -> String {
        self.postgres_urls.get(service).unwrap_or(&self.postgres_url).clone()
    }

    /// The URL of NATS for a service.
    pub(crate) fn nats_of(&self, service: &str) -> String {
        self.nats_urls.get(service).unwrap_or(&self.nats_url).clone()
    }

    /// The URL of NATS for what manages streams.
    pub(crate) const fn nats_for_streams(&self) -> &String {
        if self.nats_admin_url.is_empty() { &self.nats_url } else { &self.nats_admin_url }
    }

    /// The file of a data directory; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub(crate) fn read(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(data_dir);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let read = serde_json::from_str(&text);
        read.with_context(|| format!("{} is not a file of credentials", path.display())).map(Some)
    }

    pub(crate) fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        write_atomically(&Self::path(data_dir), &serde_json::to_vec_pretty(self)?, 0o600)
    }
}
