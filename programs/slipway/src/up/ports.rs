//! Ports of a platform: by convention, or free ones, and the same again at the next start.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use slipway_toolbox::servers;

use crate::endpoints::write_atomically;

/// How ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// The ones that clients expect: registry 5000, serving 8000 to 8002, and so on.
    Default,
    /// Free ones.
    Auto,
}

/// A port a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) registry: u16,
    pub(crate) launcher: u16,
    pub(crate) rollout_controller: u16,
    pub(crate) drift_monitor: u16,
    pub(crate) serving_http: u16,
    pub(crate) serving_grpc: u16,
    pub(crate) serving_metrics: u16,
    pub(crate) postgres: u16,
    pub(crate) nats: u16,
    pub(crate) s3: u16,
}

/// Registry as MLflow's, serving as Triton's, NATS and S3 (SeaweedFS) as their own; Postgres beside its own port, where one
/// often runs already.
pub(super) const CONVENTION: Ports = Ports {
    registry: 5000,
    launcher: 5010,
    rollout_controller: 5020,
    drift_monitor: 5030,
    serving_http: 8000,
    serving_grpc: 8001,
    serving_metrics: 8002,
    postgres: 5433,
    nats: 4222,
    s3: 8333,
};

impl Ports {
    fn named(&self) -> [(&'static str, u16); 10] {
        [
            ("registry", self.registry),
            ("launcher", self.launcher),
            ("rollout controller", self.rollout_controller),
            ("drift monitor", self.drift_monitor),
            ("serving (REST)", self.serving_http),
            ("serving (gRPC)", self.serving_grpc),
            ("serving (metrics)", self.serving_metrics),
            ("Postgres", self.postgres),
            ("NATS", self.nats),
            ("S3", self.s3),
        ]
    }

    /// Chooses ports and keeps them in `ports.json`. Free ones are chosen again where one of the last time is taken now.
    pub(crate) fn choose(choice: Choice, data_dir: &Path) -> anyhow::Result<Self> {
        let ports = match choice {
            Choice::Default => {
                CONVENTION.require_free()?;
                CONVENTION
            }
            Choice::Auto => {
                let before = std::fs::read(data_dir.join("ports.json"))
                    .ok()
                    .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
                match before {
                    Some(ports) if ports.are_reserved() && ports.require_free().is_ok() => ports,
                    _ => Self::free()?,
                }
            }
        };
        write_atomically(&data_dir.join("ports.json"), &serde_json::to_vec_pretty(&ports)?, 0o600)?;
        Ok(ports)
    }

    /// Whether no other platform that is starting has chosen one of them.
    fn are_reserved(&self) -> bool {
        self.named().iter().all(|(_, port)| servers::reserve(*port))
    }

    /// Ports of a platform that was killed a moment ago are waited for.
    fn require_free(&self) -> anyhow::Result<()> {
        for (name, port) in self.named() {
            if !servers::wait_for_port(port, servers::PORT_LIMIT) {
                bail!(
                    "port {port} for {name} is in use by another program: stop that program, or have free ports chosen with --ports auto"
                );
            }
        }
        Ok(())
    }

    /// Ten free ports, none of which is given twice.
    fn free() -> anyhow::Result<Self> {
        let next = || servers::free_port().context("no free port");
        Ok(Self {
            registry: next()?,
            launcher: next()?,
            rollout_controller: next()?,
            drift_monitor: next()?,
            serving_http: next()?,
            serving_grpc: next()?,
            serving_metrics: next()?,
            postgres: next()?,
            nats: next()?,
            s3: next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn free_ports_are_distinct_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = Ports::choose(Choice::Auto, folder.path()).unwrap();
        let mut numbers: Vec<u16> = first.named().iter().map(|(_, port)| *port).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 10);
        assert_eq!(Ports::choose(Choice::Auto, folder.path()).unwrap(), first);
    }

    #[test]
    fn a_taken_port_is_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = Ports { nats: port, ..Ports::free().unwrap() }.require_free().unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("NATS"), "{error}");
    }
}
