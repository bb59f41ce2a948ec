//! NATS with JetStream.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Launch, Running, accepts};
use crate::Error;

const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How NATS is to run.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// The `nats-server` program.
    pub program: PathBuf,
    /// Folder of its data; made where it is not there.
    pub dir: PathBuf,
    /// Folder of its log.
    pub log_dir: PathBuf,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

/// Starts NATS and waits until it takes connections.
///
/// # Errors
/// It does not start; the end of its log is in the error.
pub fn start(options: &NatsOptions) -> Result<Running, Error> {
    std::fs::create_dir_all(&options.dir).map_err(Error::file("cannot make", &options.dir))?;
    let configuration = options.dir.join("nats.conf");
    std::fs::write(&configuration, configure(options))
        .map_err(Error::file("cannot write", &configuration))?;
    let port = options.port;
    let launch = Launch {
        name: "NATS",
        dir: &options.dir,
        log: options.log_dir.join("nats.log"),
        url: format!("nats://127.0.0.1:{port}"),
        port,
        stop_signal: Signal::SIGTERM,
        stop_limit: STOP_LIMIT,
        ready_limit: READY_LIMIT,
        transient: &["address already in use", "resource temporarily unavailable"],
    };
    let command = || {
        let mut command = Command::new(&options.program);
        command.arg("--config").arg(&configuration);
        Ok(command)
    };
    launch.start(command, |_| accepts(port))
}

/// What was acknowledged outlives the process at once, and a power cut after the sync interval.
fn configure(options: &NatsOptions) -> String {
    format!(
        "listen: \"127.0.0.1:{}\"\nserver_name: \"slipway\"\nmax_payload: 8MB\nwrite_deadline: \"10s\"\n\
         jetstream {{\n  store_dir: {}\n  max_memory_store: 64MB\n  max_file_store: 8GB\n  sync_interval: \"1s\"\n}}\n",
        options.port,
        quoted(&options.dir.join("jetstream"))
    )
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\""))
}
