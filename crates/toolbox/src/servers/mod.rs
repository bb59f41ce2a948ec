//! Private instances of the real servers: each with its data in one folder, on 127.0.0.1, and gone when we are.

mod nats;
mod ports;
mod postgres;
mod s3;

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use nats::{NatsOptions, start as start_nats};
use nix::sys::signal::Signal;
pub use ports::free_port;
pub use postgres::{PostgresOptions, start as start_postgres};
pub use s3::{S3Keys, S3Options, start as start_s3};

use crate::{Error, process};

const READY_POLL_MS: u64 = 20;
const LOG_TAIL_LINES: usize = 12;

/// A running server. Dropped, it is ended by force; [`Running::stop`] asks first.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    child: Child,
    /// How it is asked to end.
    stop_signal: Signal,
    stop_limit: Duration,
    /// How clients reach it, with credentials where it has any.
    pub url: String,
    /// Its log.
    pub log: PathBuf,
}

impl Running {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Asks it to end, waits, and ends it by force at last.
    pub fn stop(&mut self) {
        process::stop(&mut self.child, self.stop_signal, self.stop_limit);
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until `ready` says so, or the server has ended, or the time is up.
    fn wait_until(mut self, limit: Duration, ready: impl Fn(&Self) -> bool) -> Result<Self, Error> {
        let started = Instant::now();
        loop {
            if ready(&self) {
                return Ok(self);
            }
            if let Some(how) = self.ended() {
                return Err(self.problem(format!("ended while it started ({how})")));
            }
            if started.elapsed() > limit {
                return Err(self.problem(format!("was not ready after {} s", limit.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(READY_POLL_MS));
        }
    }

    fn problem(&self, problem: String) -> Error {
        Error::Server { name: self.name, problem, log: self.log.clone(), tail: tail(&self.log) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a server with its output in `log`.
fn spawn(
    name: &'static str,
    command: &mut Command,
    log: PathBuf,
    url: String,
    (stop_signal, stop_limit): (Signal, Duration),
) -> Result<Running, Error> {
    let output = open_log(&log)?;
    let errors = output.try_clone().map_err(Error::file("cannot open", &log))?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    process::own_session(command);
    process::die_with_parent(command);
    let program = PathBuf::from(command.get_program());
    let child = command.spawn().map_err(Error::file("cannot start", &program))?;
    Ok(Running { name, child, stop_signal, stop_limit, url, log })
}

fn open_log(path: &Path) -> Result<File, Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::file("cannot make", folder))?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(Error::file("cannot open", path))
}

fn tail(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

fn accepts(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(200)).is_ok()
}

/// A file only its owner may read.
fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let _ = std::fs::remove_file(path);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::file("cannot write", path))
}

/// A secret that is made at the first start and kept.
fn kept_secret(path: &Path) -> Result<String, Error> {
    match std::fs::read_to_string(path) {
        Ok(secret) if !secret.trim().is_empty() => Ok(secret.trim().to_owned()),
        _ => {
            let secret = uuid::Uuid::new_v4().simple().to_string();
            write_secret(path, &secret)?;
            Ok(secret)
        }
    }
}
