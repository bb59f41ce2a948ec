//! `credentials.json`: secrets of a platform on this machine, readable by its owner alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::endpoints::write_atomically;

/// How the platform's owner and its services reach the servers. Never logged.
#[derive(Clone, Serialize)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Credentials {
    /// Of the superuser, or of the one user of a server of one's own.
    pub(crate) postgres_url: String,
    /// Of the user that reads events and publishes nothing, or of the one user of a server of one's own.
    pub(crate) nats_url: String,
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

    pub(crate) fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        write_atomically(&Self::path(data_dir), &serde_json::to_vec_pretty(self)?, 0o600)
    }
}
