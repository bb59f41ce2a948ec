//! Ports of a platform: by convention, or free ones, and the same again at the next start.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use slipway_toolbox::servers;

use crate::endpoints::write_atomically;
use crate::services::{Port, SERVICES};

/// How ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// Standard ports: registry 5000, serving 8000 to 8002, and so on.
    Default,
    /// Free ports, kept for the next start.
    Auto,
}

/// Postgres, not on its own port, on which another server often runs already.
pub(crate) const POSTGRES: Port = Port { key: "postgres", title: "Postgres", number: 5433 };
/// NATS.
pub(crate) const NATS: Port = Port { key: "nats", title: "NATS", number: 4222 };
/// SeaweedFS.
pub(crate) const S3: Port = Port { key: "s3", title: "S3", number: 8333 };

/// The ports of a platform by [`Port::key`]; a port that is not in it is the standard one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Ports(BTreeMap<String, u16>);

/// Every port of the platform: those of the services, then those of the servers.
pub(super) fn all() -> impl Iterator<Item = &'static Port> {
    let services = SERVICES.iter().flat_map(|service| service.listeners).map(|listener| &listener.port);
    services.chain([&POSTGRES, &NATS, &S3])
}

impl Ports {
    /// The port to listen on.
    pub(crate) fn of(&self, port: &Port) -> u16 {
        self.0.get(port.key).copied().unwrap_or(port.number)
    }

    /// The standard ports.
    fn standard() -> Self {
        Self(all().map(|port| (port.key.to_owned(), port.number)).collect())
    }

    /// Chooses ports and keeps them in `ports.json`. Free ones are chosen again if one that was chosen before
    /// is in use now.
    pub(crate) fn choose(choice: Choice, data_dir: &Path) -> anyhow::Result<Self> {
        let ports = match choice {
            Choice::Default => {
                let standard = Self::standard();
                standard.require_free()?;
                standard
            }
            Choice::Auto => {
                let before = std::fs::read(data_dir.join("ports.json"))
                    .ok()
                    .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
                match before {
                    // A file of a release with fewer services has fewer ports.
                    Some(ports)
                        if ports.is_complete() && ports.are_reserved() && ports.require_free().is_ok() =>
                    {
                        ports
                    }
                    _ => Self::free()?,
                }
            }
        };
        write_atomically(&data_dir.join("ports.json"), &serde_json::to_vec_pretty(&ports)?, 0o600)?;
        Ok(ports)
    }

    /// Whether no other platform that is starting has chosen one of them.
    fn are_reserved(&self) -> bool {
        all().all(|port| servers::reserve(self.of(port)))
    }

    fn is_complete(&self) -> bool {
        all().all(|port| self.0.contains_key(port.key))
    }

    /// Ports of a platform that was killed a moment ago are waited for.
    fn require_free(&self) -> anyhow::Result<()> {
        for port in all() {
            let number = self.of(port);
            if !servers::wait_for_port(number, servers::PORT_LIMIT) {
                bail!(
                    "port {number} for {} is in use by another program: stop that program, or have free \
                     ports chosen with --ports auto",
                    port.title
                );
            }
        }
        Ok(())
    }

    /// Free ports, none of which is given twice.
    fn free() -> anyhow::Result<Self> {
        let free = |port: &Port| Ok((port.key.to_owned(), servers::free_port().context("no free port")?));
        all().map(free).collect::<anyhow::Result<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn free_ports_are_distinct_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = Ports::choose(Choice::Auto, folder.path()).unwrap();
        let numbers: BTreeSet<u16> = all().map(|port| first.of(port)).collect();
        assert_eq!(numbers.len(), 10);
        assert_eq!(Ports::choose(Choice::Auto, folder.path()).unwrap(), first);
    }

    #[test]
    fn a_file_without_the_port_of_a_new_service_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let mut older = Ports::free().unwrap();
        older.0.remove("drift_monitor");
        std::fs::write(folder.path().join("ports.json"), serde_json::to_vec(&older).unwrap()).unwrap();
        assert!(Ports::choose(Choice::Auto, folder.path()).unwrap().is_complete());
    }

    #[test]
    fn the_standard_ports_are_those_of_the_documentation() {
        let standard: Vec<(&str, u16)> = all().map(|port| (port.key, Ports::default().of(port))).collect();
        let expected = [
            ("registry", 5000),
            ("launcher", 5010),
            ("serving_http", 8000),
            ("serving_grpc", 8001),
            ("serving_metrics", 8002),
            ("rollout_controller", 5020),
            ("drift_monitor", 5030),
            ("postgres", 5433),
            ("nats", 4222),
            ("s3", 8333),
        ];
        assert_eq!(standard, expected);
    }

    #[test]
    fn a_taken_port_is_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut ports = Ports::free().unwrap();
        ports.0.insert("nats".to_owned(), port);
        let error = ports.require_free().unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("NATS"), "{error}");
    }
}
