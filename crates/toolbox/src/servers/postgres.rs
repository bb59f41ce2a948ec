//! PostgreSQL.
//!
//! Postgres refuses to run as root. Where we are root it runs as `nobody`, with its data in a folder that `nobody` can reach:
//! the given one, or, where a parent of that is closed to others, one under `/var/lib/slipway`.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid};

use super::{Launch, Running, kept_secret, predecessor, tail, write_secret};
use crate::{Error, PostgresBinaries, process};

const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const ORPHAN_LIMIT: Duration = Duration::from_secs(10);
/// How long backends without a postmaster may take to end on their own.
const BACKEND_GRACE: Duration = Duration::from_secs(2);
/// Index of the state's line in `postmaster.pid`: `LOCK_FILE_LINE_PM_STATUS` of Postgres, which counts from 1, is 8.
const PM_STATUS_LINE: usize = 7;
const USER: &str = "slipway";
const DATABASE: &str = "slipway";
/// `nobody` and `nogroup`, by the numbers that Linux distributions share.
const NOBODY: u32 = 65_534;

/// How Postgres is to run.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Its programs.
    pub binaries: PostgresBinaries,
    /// Folder of its data; made where it is not there.
    pub dir: PathBuf,
    /// Folder of its log.
    pub log_dir: PathBuf,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

/// Starts Postgres, with a database `slipway`, and waits until it takes connections. The URL holds the password, which is made
/// at the first start and kept in the folder.
///
/// # Errors
/// It does not start; the end of its log is in the error.
pub fn start(options: &PostgresOptions) -> Result<Running, Error> {
    let account = Account::choose();
    std::fs::create_dir_all(&options.dir).map_err(Error::file("cannot make", &options.dir))?;
    let password = kept_secret(&options.dir.join("password"))?;
    let home = account.home(&options.dir)?;
    let data = home.join("data");
    let log = options.log_dir.join("postgres.log");
    if !data.exists() {
        initialise(options, account, &home, &password, &log)?;
    }
    remove_orphan(&data);
    let launch = Launch {
        name: "Postgres",
        dir: &options.dir,
        log,
        url: url(&password, options.port),
        port: options.port,
        stop_signal: Signal::SIGINT,
        stop_limit: STOP_LIMIT,
        ready_limit: READY_LIMIT,
        transient: &[
            "pre-existing shared memory block",
            "lock file \"postmaster.pid\" already exists",
            "Address already in use",
        ],
    };
    let command = || {
        let mut command = account.command(&options.binaries, "postgres");
        command.arg("-D").arg(&data).args(["-p", &options.port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        Ok(command)
    };
    let running = launch.start(command, |running| is_ready(&data, running.pid()))?;
    make_database(options, &password, &running.log)?;
    Ok(running)
}

/// Small for one machine, and safe: nothing that was acknowledged is lost in a crash.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    // No socket in the file system: its path would have to be short.
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=64MB",
    // Our statements are short: compiling one would take longer than running it.
    "jit=off",
    "fsync=on",
    "synchronous_commit=on",
    "log_min_messages=warning",
    "log_min_error_statement=panic",
];

fn url(password: &str, port: u16) -> String {
    format!("postgres://{USER}:{password}@127.0.0.1:{port}/{DATABASE}")
}

/// Who runs Postgres: ourselves, or `nobody` where we are root.
#[derive(Debug, Clone, Copy)]
struct Account {
    drop_to: Option<(Uid, Gid)>,
}

impl Account {
    fn choose() -> Self {
        let root = nix::unistd::geteuid().is_root();
        Self { drop_to: root.then(|| (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY))) }
    }

    fn command(self, binaries: &PostgresBinaries, program: &str) -> Command {
        let mut command = Command::new(binaries.bin_dir.join(program));
        // A locale or a service file of the person who starts us is none of the server's business.
        for variable in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGPASSWORD", "PGSERVICE", "PGOPTIONS"] {
            command.env_remove(variable);
        }
        command.env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
        if let Some((uid, gid)) = self.drop_to {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    /// The folder that Postgres works in; owned by the account, and reachable for it.
    fn home(self, dir: &Path) -> Result<PathBuf, Error> {
        let Some((uid, gid)) = self.drop_to else {
            return absolute(dir);
        };
        let dir = absolute(dir)?;
        let home = if is_reachable(&dir) {
            dir.join("home")
        } else {
            let mut hasher = DefaultHasher::new();
            dir.hash(&mut hasher);
            let base = Path::new("/var/lib/slipway");
            std::fs::create_dir_all(base).map_err(Error::file("cannot make", base))?;
            base.join(format!("postgres-{:016x}", hasher.finish()))
        };
        // Data left by an earlier platform whose folder was removed must not come back in a new one of the same name.
        let mark = dir.join("home-made");
        if !mark.exists() && home.exists() {
            std::fs::remove_dir_all(&home).map_err(Error::file("cannot remove", &home))?;
        }
        std::fs::create_dir_all(&home).map_err(Error::file("cannot make", &home))?;
        std::fs::write(&mark, home.as_os_str().as_encoded_bytes())
            .map_err(Error::file("cannot write", &mark))?;
        give(&home, uid, gid)?;
        Ok(home)
    }
}

fn absolute(dir: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(dir).map_err(Error::file("cannot find", dir))
}

/// Whether others may pass through every folder down to `dir`.
fn is_reachable(dir: &Path) -> bool {
    dir.ancestors().all(|folder| std::fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0))
}

fn give(path: &Path, uid: Uid, gid: Gid) -> Result<(), Error> {
    nix::unistd::chown(path, Some(uid), Some(gid)).map_err(|errno| Error::File {
        action: "cannot give away",
        path: path.to_path_buf(),
        source: errno.into(),
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
        .map_err(Error::file("cannot close", path))
}

/// Makes the cluster under another name and renames it: there is a whole one, or none.
fn initialise(
    options: &PostgresOptions,
    account: Account,
    home: &Path,
    password: &str,
    log: &Path,
) -> Result<(), Error> {
    let part = home.join("data.part");
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(Error::file("cannot remove", &part))?;
    }
    let password_file = home.join("initial-password");
    write_secret(&password_file, password)?;
    if let Some((uid, gid)) = account.drop_to {
        nix::unistd::chown(&password_file, Some(uid), Some(gid)).map_err(|errno| Error::File {
            action: "cannot give away",
            path: password_file.clone(),
            source: errno.into(),
        })?;
    }
    let mut command = account.command(&options.binaries, "initdb");
    command.arg("-D").arg(&part).args([
        "-U",
        USER,
        "--encoding=UTF8",
        "--locale=C",
        "--auth=scram-sha-256",
        "--no-sync",
    ]);
    command.arg(format!("--pwfile={}", password_file.display()));
    run_logged(&mut command, "initdb", log)?;
    let _ = std::fs::remove_file(&password_file);
    let data = home.join("data");
    std::fs::rename(&part, &data).map_err(Error::file("cannot make", &data))
}

/// Stops what is left of a Postgres that outlived its platform, and removes its lock file, because the process id in it may be
/// another program's by now.
///
/// Backends end when they notice that their postmaster is gone, which one that computes does late. Until then they hold the
/// shared memory of the data directory, and no other Postgres starts on it. With the postmaster gone, ending them by a signal is a
/// crash of Postgres like any other: it loses nothing that was committed.
fn remove_orphan(data: &Path) {
    let pid_file = data.join("postmaster.pid");
    if let Some(pid) = postmaster_lines(data).first().and_then(|line| line.trim().parse::<i32>().ok()) {
        let folder = data.to_string_lossy();
        let runs = || process::runs_with(pid, &["postgres", &folder]);
        if runs() {
            process::stop_foreign(pid, Signal::SIGINT, ORPHAN_LIMIT, runs);
        }
    }
    predecessor::wait_until_unused(data, BACKEND_GRACE, &[Signal::SIGQUIT, Signal::SIGKILL]);
    // Best effort: Postgres itself reports what is wrong where this did not help.
    let _ = std::fs::remove_file(&pid_file);
}

/// Lines of the lock file of a running postmaster: process id first, its state as the eighth, see `pidfile.h` of Postgres.
fn postmaster_lines(data: &Path) -> Vec<String> {
    std::fs::read_to_string(data.join("postmaster.pid"))
        .map(|text| text.lines().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Whether the postmaster with this process id takes connections. Asked of its lock file as `pg_ctl` does: an answer on the port
/// could be another server's.
fn is_ready(data: &Path, pid: u32) -> bool {
    let lines = postmaster_lines(data);
    let line = |at: usize| lines.get(at).map(|line| line.trim());
    line(0) == Some(pid.to_string().as_str()) && line(PM_STATUS_LINE) == Some("ready")
}

fn make_database(options: &PostgresOptions, password: &str, log: &Path) -> Result<(), Error> {
    let statement = format!(
        "SELECT 'CREATE DATABASE {DATABASE}' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec\n"
    );
    let mut command = Command::new(options.binaries.bin_dir.join("psql"));
    command.args([
        "-X",
        "-q",
        "-h",
        "127.0.0.1",
        "-p",
        &options.port.to_string(),
        "-U",
        USER,
        "-d",
        "postgres",
    ]);
    command.env("PGPASSWORD", password).current_dir("/");
    let script = options.dir.join("make-database.sql");
    std::fs::write(&script, statement).map_err(Error::file("cannot write", &script))?;
    let script = absolute(&script)?;
    run_logged(command.arg("-f").arg(&script), "psql", log)
}

fn run_logged(command: &mut Command, name: &'static str, log: &Path) -> Result<(), Error> {
    let output = super::open_log(log)?;
    let errors = output.try_clone().map_err(Error::file("cannot open", log))?;
    let program = PathBuf::from(command.get_program());
    let status = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(Error::file("cannot start", &program))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Server {
        name,
        problem: format!("failed ({status})"),
        log: log.to_path_buf(),
        tail: tail(log),
    })
}
