//! `endpoints.json`: where everything of a platform on this machine is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::services::{Probe, SERVICES};

/// Addresses of a platform. Those of Postgres and NATS hold passwords: the file is readable by its owner
/// alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// URLs of what the services listen on, by the keys of the table of services.
    #[serde(flatten)]
    pub(crate) services: BTreeMap<String, String>,
    /// NATS, with the user `reader` and its password.
    pub(crate) nats: String,
    /// S3 endpoint.
    pub(crate) s3: String,
    /// Postgres, with the superuser and its password.
    pub(crate) postgres: String,
    /// Process IDs by service and server, of those that this platform started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) pids: BTreeMap<String, u32>,
}

/// An address of a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint<'platform> {
    /// Its name in the file.
    pub(crate) part: &'static str,
    /// Name of its process in `pids`.
    pub(crate) process: String,
    pub(crate) url: &'platform str,
    pub(crate) probe: Probe,
}

impl Endpoints {
    /// Those of services alone.
    pub(crate) fn of_services(services: BTreeMap<String, String>) -> Self {
        let none = String::new;
        Self { services, nats: none(), s3: none(), postgres: none(), pids: BTreeMap::new() }
    }

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

    /// The URL of what a service listens on, e.g. of `serving_grpc`.
    ///
    /// # Errors
    /// The platform that wrote the file has no such service.
    pub(crate) fn url(&self, key: &str) -> anyhow::Result<&str> {
        let url = self.services.get(key).map(String::as_str);
        url.with_context(|| {
            format!("the platform has no {key}: it does not run, or endpoints.json is of an older release")
        })
    }

    /// All addresses: those of the services in the order of the table, then those of the servers.
    pub(crate) fn all(&self) -> Vec<Endpoint<'_>> {
        let mut all = Vec::new();
        for service in &SERVICES {
            for listener in service.listeners {
                let Some(url) = self.services.get(listener.port.key) else { continue };
                let (part, probe) = (listener.port.key, listener.probe);
                all.push(Endpoint { part, process: service.process(), url, probe });
            }
        }
        for (part, url) in [("nats", &self.nats), ("s3", &self.s3), ("postgres", &self.postgres)] {
            all.push(Endpoint { part, process: part.to_owned(), url, probe: Probe::Connect });
        }
        all
    }
}

/// A URL as people may see it: without user and password.
pub(crate) fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
    }
}

/// Writes a file next to its place and renames it, so that a reader sees the old one or the new one.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_an_earlier_release_is_read_and_its_addresses_keep_their_names() {
        let file = r#"{
            "registry": "http://127.0.0.1:1", "launcher": "http://127.0.0.1:2",
            "serving_http": "http://127.0.0.1:3",
            "serving_grpc": "http://127.0.0.1:4", "serving_metrics": "http://127.0.0.1:5",
            "drift_monitor": "http://127.0.0.1:6", "rollout_controller": "http://127.0.0.1:7",
            "nats": "nats://127.0.0.1:8", "s3": "http://127.0.0.1:9",
            "postgres": "postgres://127.0.0.1:10/slipway",
            "pids": {"registry": 11}
        }"#;
        let endpoints: Endpoints = serde_json::from_str(file).unwrap();
        let written: serde_json::Value = serde_json::to_value(&endpoints).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(file).unwrap());
        assert_eq!(endpoints.all().len(), 10);
        assert_eq!(endpoints.url("rollout_controller").unwrap(), "http://127.0.0.1:7");
        let metrics =
            endpoints.all().into_iter().find(|endpoint| endpoint.part == "serving_metrics").unwrap();
        assert_eq!((metrics.process.as_str(), metrics.probe), ("serving", Probe::Get("/metrics")));
    }

    #[test]
    fn a_service_that_the_platform_does_not_have_is_named() {
        let older = r#"{"registry": "http://127.0.0.1:1", "nats": "", "s3": "", "postgres": ""}"#;
        let endpoints: Endpoints = serde_json::from_str(older).unwrap();
        let error = endpoints.url("launcher").unwrap_err().to_string();
        assert!(error.contains("has no launcher"), "{error}");
        assert_eq!(endpoints.all().len(), 4);
    }
}
