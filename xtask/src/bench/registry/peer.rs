//! An `mlflow server` on a database of its own in the same Postgres.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use sqlx::Connection as _;

use crate::venv;

const START_TIMEOUT: Duration = Duration::from_secs(180);
const DATABASE: &str = "mlflow";

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) url: String,
    child: Child,
}

impl Peer {
    /// Starts it and waits until it answers.
    pub(super) async fn start(database: &str, data_dir: &Path, workers: u32) -> anyhow::Result<Self> {
        let python = venv::ensure_bench()?;
        let mut connection = sqlx::PgConnection::connect(database).await.context("cannot reach Postgres")?;
        sqlx::query("CREATE DATABASE mlflow").execute(&mut connection).await.context("CREATE DATABASE")?;
        let (server, _) = database.rsplit_once('/').context("the database's URL has no path")?;
        let store = format!("{server}/{DATABASE}").replacen("postgres", "postgresql+psycopg2", 1).replacen(
            "ql+psycopg2ql",
            "ql+psycopg2",
            1,
        );
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = File::create(data_dir.join("mlflow-server.log"))?;
        let child = Command::new(python.with_file_name("mlflow"))
            .args([
                "server",
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--workers",
                &workers.to_string(),
            ])
            .args(["--backend-store-uri", &store, "--artifacts-destination"])
            .arg(data_dir.join("mlflow-artifacts"))
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start `mlflow server`")?;
        let peer = Self { url: format!("http://127.0.0.1:{port}"), child };
        let (http, started) = (reqwest::Client::new(), Instant::now());
        while started.elapsed() < START_TIMEOUT {
            let answer =
                http.get(format!("{}/health", peer.url)).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                // Its other workers take longer.
                tokio::time::sleep(Duration::from_secs(10)).await;
                return Ok(peer);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        bail!("`mlflow server` did not answer in time; see {}", data_dir.join("mlflow-server.log").display())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
