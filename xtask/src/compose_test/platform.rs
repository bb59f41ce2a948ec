//! The platform of docker-compose.yml on free ports, and its command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use slipway_toolbox::servers::free_port;

use super::engine::{self, Engine};
use crate::build::root;

const PROJECT: &str = "slipway-test";
/// From a start to the last health check that succeeds.
const HEALTHY_LIMIT: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(500);
/// Containers that stay; `setup` ends.
pub(super) const CONTAINERS: [&str; 8] =
    ["postgres", "nats", "s3", "registry", "launcher", "rollout-controller", "drift-monitor", "serving"];
/// Ports in docker-compose.yml, by the variables that change them, and their names in endpoints.json.
const PORTS: [(&str, &str); 7] = [
    ("SLIPWAY_REGISTRY_PORT", "registry"),
    ("SLIPWAY_LAUNCHER_PORT", "launcher"),
    ("SLIPWAY_ROLLOUT_CONTROLLER_PORT", "rollout_controller"),
    ("SLIPWAY_DRIFT_MONITOR_PORT", "drift_monitor"),
    ("SLIPWAY_SERVING_PORT", "serving_http"),
    ("SLIPWAY_SERVING_GRPC_PORT", "serving_grpc"),
    ("SLIPWAY_SERVING_METRICS_PORT", "serving_metrics"),
];

/// The composed platform.
#[derive(Debug)]
pub(super) struct Platform<'test> {
    engine: &'test Engine,
    /// Holds `.env` and `endpoints.json`.
    folder: PathBuf,
    slipway: PathBuf,
    ports: BTreeMap<&'static str, u16>,
    /// The administrator's.
    pub(super) token: String,
}

impl<'test> Platform<'test> {
    /// Writes settings as a user does, with `deploy/compose/env.sh`, and free ports.
    pub(super) fn new(engine: &'test Engine, folder: &Path, slipway: &Path) -> anyhow::Result<Self> {
        let settings = folder.join("env");
        let _ = std::fs::remove_file(&settings);
        engine::text(Command::new(root().join("deploy/compose/env.sh")).arg(&settings))?;
        let mut text = std::fs::read_to_string(&settings)?;
        let token = text.lines().find_map(|line| line.strip_prefix("SLIPWAY_ADMIN_TOKEN="));
        let token = token.context("env.sh wrote no SLIPWAY_ADMIN_TOKEN")?.to_owned();
        let mut ports = BTreeMap::new();
        let mut endpoints =
            json!({"nats": "nats://none:1", "s3": "http://none:1", "postgres": "postgres://none:1"});
        for (variable, key) in PORTS {
            let port = free_port()?;
            text += &format!("{variable}={port}\n");
            endpoints[key] = format!("http://127.0.0.1:{port}").into();
            ports.insert(key, port);
        }
        std::fs::write(&settings, text)?;
        std::fs::write(folder.join("endpoints.json"), endpoints.to_string())?;
        Ok(Self { engine, folder: folder.to_owned(), slipway: slipway.to_owned(), ports, token })
    }

    /// Runs podman-compose with the file of the repository.
    pub(super) fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.engine.command("podman-compose");
        command.current_dir(root()).args(["--project-name", PROJECT, "--env-file"]);
        engine::text(command.arg(self.folder.join("env")).args(arguments))
    }

    /// Starts all containers, and waits until the health check of each one succeeds.
    pub(super) fn up(&self) -> anyhow::Result<()> {
        self.compose(&["up", "--detach"])?;
        CONTAINERS.iter().try_for_each(|service| self.wait_until_healthy(service))
    }

    /// Removes all containers; volumes stay.
    pub(super) fn down(&self) -> anyhow::Result<()> {
        self.compose(&["down"]).map(drop)
    }

    /// Removes all containers and volumes.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        self.compose(&["down", "--volumes"]).map(drop)
    }

    /// Restarts a container, and waits until its health check succeeds.
    pub(super) fn restart(&self, service: &str) -> anyhow::Result<()> {
        // `podman restart` refuses a container that depends on one that has ended, as `setup` has.
        self.engine.podman(&["stop", "--time", "25", &container(service)])?;
        self.engine.podman(&["start", &container(service)])?;
        self.wait_until_healthy(service)
    }

    /// Runs the health check that the compose file gives a container.
    fn wait_until_healthy(&self, service: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let Err(error) = self.engine.podman(&["healthcheck", "run", &container(service)]) else {
                return Ok(());
            };
            if started.elapsed() > HEALTHY_LIMIT {
                bail!("{service} is not healthy: {error:#}\n{}", self.log(service));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Runs a program in a container.
    pub(super) fn exec(&self, service: &str, command: &[&str]) -> anyhow::Result<String> {
        let container = container(service);
        let arguments = [&["exec", container.as_str()], command].concat();
        self.engine.podman(&arguments)
    }

    /// Runs `slipway` as the administrator. Returns what it prints.
    pub(super) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.slipway);
        command.args(arguments).arg("--data-dir").arg(&self.folder);
        engine::text(command.env("SLIPWAY_TOKEN", &self.token))
    }

    /// Runs `slipway --json` as the administrator. Returns the document that it prints.
    pub(super) fn slipway(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let printed = self.run(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&printed).with_context(|| format!("slipway {}: {printed}", arguments.join(" ")))
    }

    /// The URL of what a service listens on, by its key in `endpoints.json`.
    pub(super) fn url(&self, key: &str) -> String {
        let port = self.ports.get(key).copied().unwrap_or_default();
        format!("http://127.0.0.1:{port}")
    }

    /// The end of a container's log.
    fn log(&self, service: &str) -> String {
        let mut command = self.engine.command("podman");
        engine::everything(command.args(["logs", "--tail", "30", &container(service)]))
    }

    /// The logs of all containers, for a test that failed.
    pub(super) fn logs(&self) -> String {
        let log = |service: &&str| {
            let log = self.log(service);
            format!("--- {service}\n{log}")
        };
        CONTAINERS.iter().chain(&["setup"]).map(log).collect()
    }
}

fn container(service: &str) -> String {
    format!("{PROJECT}_{service}_1")
}
