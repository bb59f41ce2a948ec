//! Private instances of the real servers: each with its data in one folder, on 127.0.0.1, and gone when we
//! are.
//!
//! Every port requires credentials, since every user of the machine can connect to it. Every file is its
//! owner's alone. Started by root, a server runs as a system account of its own ([`crate::Account`]).

mod certificates;
mod home;
mod link;
mod nats;
mod nats_cluster;
mod ports;
mod postgres;
mod predecessor;
mod s3;
mod sockets;

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use link::Link;
pub use nats::{NatsOptions, NatsPermissions, NatsUrls, NatsUser, start as start_nats};
pub use nats_cluster::NatsCluster;
use nix::sys::signal::Signal;
pub use ports::{free_port, reserve};
pub use postgres::{PostgresOptions, PostgresRole, PostgresUrls, start as start_postgres};
use predecessor::PidFile;
pub use predecessor::{PORT_LIMIT, wait_for_port};
pub use s3::{S3Keys, S3Options, start as start_s3};
use slipway_runtime::id;

use crate::{Account, Error, private, process};

const READY_POLL_MS: u64 = 20;
const LOG_TAIL_LINES: usize = 12;
/// Starts that fail because a predecessor still holds something are tried again for this long.
const RETRY_LIMIT: Duration = Duration::from_secs(20);
const RETRY_DELAY: Duration = Duration::from_millis(200);

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
    /// Files outside its folder that it does not remove itself.
    leaves: Vec<PathBuf>,
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
        self.tidy();
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.tidy();
    }

    fn tidy(&mut self) {
        for file in self.leaves.drain(..) {
            // The next server that takes the same port removes it, too.
            let _ = sockets::clear(&file);
        }
    }

    /// Waits until `ready` holds, the server has ended, or the time is up.
    fn wait_until(mut self, limit: Duration, ready: impl Fn(&Self) -> bool) -> Result<Self, Error> {
        let started = Instant::now();
        loop {
            let is_ready = ready(&self);
            // In this order: what answers on the port may be another program, on whose account ours has just
            // ended.
            if let Some(how) = self.ended() {
                return Err(self.problem(format!("ended during startup ({how})")));
            }
            if is_ready {
                return Ok(self);
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

/// How a server is started; the same for every attempt.
struct Launch<'server> {
    name: &'static str,
    /// Folder of its data, where its process is recorded.
    dir: &'server Path,
    log: PathBuf,
    url: String,
    port: u16,
    stop_signal: Signal,
    stop_limit: Duration,
    /// Longest time from a start to readiness.
    ready_limit: Duration,
    /// Lines of the log that tell that a predecessor has not released something yet: such a start is tried
    /// again.
    transient: &'static [&'static str],
}

/// One attempt to start a server.
struct Attempt {
    command: Command,
    /// Files outside its folder that the server makes and does not remove, whether it starts or not.
    leaves: Vec<PathBuf>,
}

impl From<Command> for Attempt {
    fn from(command: Command) -> Self {
        Self { command, leaves: Vec::new() }
    }
}

impl Launch<'_> {
    /// Waits for what a predecessor left, starts the server, and waits until it is ready. A start that fails
    /// because something has not been released yet is tried again, for [`RETRY_LIMIT`] in all. `attempt` is
    /// called for each one.
    fn start(
        &self,
        mut attempt: impl FnMut() -> Result<Attempt, Error>,
        ready: impl Fn(&Running) -> bool,
    ) -> Result<Running, Error> {
        let pid_file = PidFile::in_folder(self.dir);
        pid_file.stop_recorded(self.stop_signal);
        if !wait_for_port(self.port, PORT_LIMIT) {
            return Err(Error::Port { name: self.name, port: self.port });
        }
        let started = Instant::now();
        loop {
            let log_start = std::fs::metadata(&self.log).map_or(0, |found| found.len());
            let running = self.spawn(attempt()?)?;
            pid_file.record(running.pid())?;
            match running.wait_until(self.ready_limit, &ready) {
                Err(_) if started.elapsed() < RETRY_LIMIT && self.is_transient(log_start) => {
                    std::thread::sleep(RETRY_DELAY);
                }
                outcome => return outcome,
            }
        }
    }

    /// Whether what was logged from `log_start` on is about something that a predecessor still holds.
    fn is_transient(&self, log_start: u64) -> bool {
        let logged = std::fs::read(&self.log).unwrap_or_default();
        let logged = logged.get(usize::try_from(log_start).unwrap_or(0)..).unwrap_or_default();
        let logged = String::from_utf8_lossy(logged);
        self.transient.iter().any(|sign| logged.contains(sign))
    }

    /// Starts the process with its output in the log.
    fn spawn(&self, attempt: Attempt) -> Result<Running, Error> {
        let Attempt { mut command, leaves } = attempt;
        let output = open_log(&self.log)?;
        let errors = output.try_clone().map_err(Error::file("cannot open", &self.log))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        process::own_session(&mut command);
        process::die_with_parent(&mut command);
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(Error::file("cannot start", &program))?;
        Ok(Running {
            name: self.name,
            child,
            stop_signal: self.stop_signal,
            stop_limit: self.stop_limit,
            url: self.url.clone(),
            log: self.log.clone(),
            leaves,
        })
    }
}

fn open_log(path: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(folder) = path.parent() {
        private::folder(folder)?;
    }
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let log = log.map_err(Error::file("cannot open", path))?;
    private::close(path)?;
    Ok(log)
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

/// A secret that is made at the first start and kept, for our eyes alone.
fn kept_secret(path: &Path) -> Result<String, Error> {
    match std::fs::read_to_string(path) {
        Ok(secret) if !secret.trim().is_empty() => Ok(secret.trim().to_owned()),
        _ => {
            let secret = random_secret();
            private::write(path, &secret, Account::ours())?;
            Ok(secret)
        }
    }
}

/// 122 bits of the system's random number generator.
fn random_secret() -> String {
    id::random().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that makes a file, says something and ends, as a server does that does not start.
    fn launch(folder: &Path) -> Launch<'_> {
        Launch {
            name: "a server",
            dir: folder,
            log: folder.join("log"),
            url: String::new(),
            port: free_port().unwrap(),
            stop_signal: Signal::SIGTERM,
            stop_limit: Duration::from_secs(1),
            ready_limit: Duration::from_secs(60),
            transient: &["still in use"],
        }
    }

    fn attempt(file: &Path, says: &str) -> Attempt {
        let mut command = Command::new("sh");
        command.args(["-c", "touch \"$0\"; echo \"$1\"; exit 3"]).arg(file).arg(says);
        Attempt { command, leaves: vec![file.to_owned()] }
    }

    #[test]
    fn an_attempt_that_fails_leaves_no_files_and_the_last_one_explains_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = |number: usize| folder.path().join(format!("{number}.sock"));
        let mut attempts = 0;
        let failed = launch(folder.path())
            .start(
                || {
                    attempts += 1;
                    let says = if attempts < 3 { "the address is still in use" } else { "a broken disk" };
                    Ok(attempt(&file(attempts), says))
                },
                |_| false,
            )
            .unwrap_err()
            .to_string();
        assert!(failed.contains("a broken disk"), "{failed}");
        assert_eq!(attempts, 3, "only what passes is tried again");
        assert!((1..=3).all(|number| !file(number).exists()));
    }
}
