//! An unmodified `mlflow server` next to Slipway, to import from and to compare with.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

const START_TIMEOUT: Duration = Duration::from_secs(180);

/// A running server; dropped, it ends with its workers.
#[derive(Debug)]
pub(crate) struct MlflowServer {
    pub(crate) url: String,
    child: Child,
}

impl MlflowServer {
    /// Starts it with its artifacts and its log in `folder`, and waits until it listens. `python` is of an
    /// environment that has MLflow.
    pub(crate) fn start(python: &Path, store: &str, folder: &Path, workers: u32) -> anyhow::Result<Self> {
        let port = slipway_toolbox::servers::free_port()?;
        let path = folder.join("mlflow-server.log");
        let log = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let child = Command::new(python.with_file_name("mlflow"))
            .args(["server", "--host", "127.0.0.1", "--port", &port.to_string()])
            .args([
                "--workers",
                &workers.to_string(),
                "--backend-store-uri",
                store,
                "--artifacts-destination",
            ])
            .arg(folder.join("mlflow-artifacts"))
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .env("DO_NOT_TRACK", "true")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start `mlflow server`")?;
        let mut server = Self { url: format!("http://127.0.0.1:{port}"), child };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("`mlflow server` ended with {status}; see {}", path.display());
            }
            if started.elapsed() > START_TIMEOUT {
                bail!("`mlflow server` did not answer in time; see {}", path.display());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for MlflowServer {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
