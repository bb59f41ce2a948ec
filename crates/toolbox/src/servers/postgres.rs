//! PostgreSQL.
//!
//! Postgres refuses to run as root, and runs as an account of its own there. It listens on 127.0.0.1 alone,
//! and every connection proves its password by SCRAM-SHA-256. A service has a role of its own, which owns one
//! schema and can use no other.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::home::Home;
use super::{Launch, Running, kept_secret, predecessor, tail};
use crate::{Account, Error, PostgresBinaries, private, process};

const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const ORPHAN_LIMIT: Duration = Duration::from_secs(10);
/// How long backends without a postmaster may take to end on their own.
const BACKEND_GRACE: Duration = Duration::from_secs(2);
/// Index of the state's line in `postmaster.pid`: `LOCK_FILE_LINE_PM_STATUS` of Postgres, which counts from
/// 1, is 8.
const PM_STATUS_LINE: usize = 7;
const USER: &str = "slipway";
const DATABASE: &str = "slipway";

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
    /// Account that it runs as.
    pub account: Account,
    /// Roles in addition to the superuser, with their schemas in the database `slipway`.
    pub roles: Vec<PostgresRole>,
}

/// A role that owns one schema. Its password is made at the first start and kept in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostgresRole {
    /// Name of the role: letters, digits and `_`.
    pub name: &'static str,
    /// Name of its schema: letters, digits and `_`.
    pub schema: &'static str,
}

/// URLs by role, each with the role's name and password.
pub type PostgresUrls = BTreeMap<String, String>;

/// Starts Postgres, with a database `slipway`, and waits until it takes connections. [`Running::url`] is that
/// of the superuser, whose password is made at the first start and kept in the folder.
///
/// # Errors
/// It does not start; the end of its log is in the error.
pub fn start(options: &PostgresOptions) -> Result<(Running, PostgresUrls), Error> {
    private::folder(&options.dir)?;
    let password = kept_secret(&options.dir.join("password"))?;
    let passwords = passwords(options)?;
    stop_predecessors(options)?;
    let home = home(options)?;
    let data = home.path().join("data");
    let log = options.log_dir.join("postgres.log");
    if !data.exists() {
        initialise(options, &home, &password, &log)?;
    }
    let access = home.write("access.conf", ACCESS)?;
    let launch = Launch {
        name: "Postgres",
        dir: &options.dir,
        log,
        url: url(USER, &password, options.port),
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
        let mut command = server_command(&home, &options.binaries, "postgres");
        command.arg("-D").arg(home.inside().join("data")).args(["-p", &options.port.to_string()]);
        command.arg("-c").arg(format!("hba_file={}", access.display()));
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        Ok(command.into())
    };
    let running = launch.start(command, |running| is_ready(&data, running.pid()))?;
    make_database(options, &password, &running.log)?;
    make_roles(options, &password, &passwords, &running.log)?;
    let urls = passwords.into_iter().map(|(name, secret)| {
        let url = url(&name, &secret, options.port);
        (name, url)
    });
    Ok((running, urls.collect()))
}

fn passwords(options: &PostgresOptions) -> Result<BTreeMap<String, String>, Error> {
    let folder = options.dir.join("roles");
    private::folder(&folder)?;
    let password = |role: &PostgresRole| Ok((role.name.to_owned(), kept_secret(&folder.join(role.name))?));
    options.roles.iter().map(password).collect()
}

/// Who may connect, and how. Not the file in the data directory, which another account may have changed under
/// an earlier release.
const ACCESS: &str = "host all all 127.0.0.1/32 scram-sha-256\n";

/// Small for one machine, and safe: nothing that was acknowledged is lost in a crash.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "password_encryption=scram-sha-256",
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

fn url(user: &str, password: &str, port: u16) -> String {
    format!("postgres://{user}:{password}@127.0.0.1:{port}/{DATABASE}")
}

fn server_command(home: &Home, binaries: &PostgresBinaries, program: &str) -> Command {
    let mut command = home.command(&binaries.bin_dir.join(program));
    // A locale or a service file of the person who starts us is none of the server's business.
    for variable in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGPASSWORD", "PGSERVICE", "PGOPTIONS"] {
        command.env_remove(variable);
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// The mark of a platform that root started: it holds the path of the home.
fn mark(options: &PostgresOptions) -> PathBuf {
    options.dir.join("home-made")
}

/// The folder that Postgres works in.
///
/// Earlier releases kept that of a platform that root started under `/var/lib/slipway`, where a parent of the
/// data directory was closed to others. It is moved, or used where it is.
fn home(options: &PostgresOptions) -> Result<Home, Error> {
    if options.account.ids().is_none() {
        return Home::below(&options.dir, options.account);
    }
    let home = absolute(&options.dir)?.join("home");
    let marked =
        std::fs::read(mark(options)).ok().map(|path| PathBuf::from(std::ffi::OsString::from_vec(path)));
    let used = match marked {
        // Data left by a platform whose mark is gone must not come back in a new one.
        None => {
            if home.exists() {
                std::fs::remove_dir_all(&home).map_err(Error::file("cannot remove", &home))?;
            }
            home
        }
        Some(marked) if marked != home && marked.join("data").exists() => {
            private::give_tree(&marked, options.account)?;
            if home.exists() || std::fs::rename(&marked, &home).is_err() { marked } else { home }
        }
        Some(_) => home,
    };
    private::write(&mark(options), &used.to_string_lossy(), Account::ours())?;
    Home::at(used, options.account)
}

/// Stops what an earlier platform left running, before its files change hands.
fn stop_predecessors(options: &PostgresOptions) -> Result<(), Error> {
    predecessor::PidFile::in_folder(&options.dir).stop_recorded(Signal::SIGINT);
    let dir = absolute(&options.dir)?;
    let marked =
        std::fs::read(mark(options)).ok().map(|path| PathBuf::from(std::ffi::OsString::from_vec(path)));
    for home in [Some(dir.clone()), Some(dir.join("home")), marked].into_iter().flatten() {
        remove_orphan(&home.join("data"));
    }
    Ok(())
}

fn absolute(dir: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(dir).map_err(Error::file("cannot find", dir))
}

/// Makes the cluster under another name and renames it: there is a whole one, or none.
fn initialise(options: &PostgresOptions, home: &Home, password: &str, log: &Path) -> Result<(), Error> {
    let part = home.path().join("data.part");
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(Error::file("cannot remove", &part))?;
    }
    let password_file = home.write("initial-password", password)?;
    let mut command = server_command(home, &options.binaries, "initdb");
    command.arg("-D").arg(home.inside().join("data.part")).args([
        "-U",
        USER,
        "--encoding=UTF8",
        "--locale=C",
        "--auth=scram-sha-256",
        "--no-sync",
    ]);
    command.arg(format!("--pwfile={}", password_file.display()));
    run_logged(&mut command, "initdb", log)?;
    let _ = std::fs::remove_file(home.path().join("initial-password"));
    let data = home.path().join("data");
    std::fs::rename(&part, &data).map_err(Error::file("cannot make", &data))
}

/// Stops what is left of a Postgres that outlived its platform, and removes its lock file, because the
/// process id in it may be another program's by now.
///
/// Backends end when they notice that their postmaster is gone, which one that computes does late. Until then
/// they hold the shared memory of the data directory, and no other Postgres starts on it. With the postmaster
/// gone, ending them by a signal is a crash of Postgres like any other: it loses nothing that was committed.
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

/// Lines of the lock file of a running postmaster: process id first, its state as the eighth, see `pidfile.h`
/// of Postgres.
fn postmaster_lines(data: &Path) -> Vec<String> {
    std::fs::read_to_string(data.join("postmaster.pid"))
        .map(|text| text.lines().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Whether the postmaster with this process id takes connections. Asked of its lock file as `pg_ctl` does: an
/// answer on the port could be another server's.
fn is_ready(data: &Path, pid: u32) -> bool {
    let lines = postmaster_lines(data);
    let line = |at: usize| lines.get(at).map(|line| line.trim());
    line(0) == Some(pid.to_string().as_str()) && line(PM_STATUS_LINE) == Some("ready")
}

fn make_database(options: &PostgresOptions, password: &str, log: &Path) -> Result<(), Error> {
    let statement = format!(
        "SELECT 'CREATE DATABASE {DATABASE}' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = \
         '{DATABASE}') \\gexec\n"
    );
    run_script(options, password, "postgres", &statement, log)
}

/// Makes each role and its schema. What an earlier release made there as the superuser becomes the role's.
fn make_roles(
    options: &PostgresOptions,
    password: &str,
    passwords: &BTreeMap<String, String>,
    log: &Path,
) -> Result<(), Error> {
    if options.roles.is_empty() {
        return Ok(());
    }
    let mut script = format!(
        "SET client_min_messages = warning;\n\
         REVOKE ALL ON DATABASE {DATABASE}, postgres FROM PUBLIC;\nREVOKE ALL ON SCHEMA public FROM PUBLIC;\n"
    );
    for role in &options.roles {
        if let Some(secret) = passwords.get(role.name) {
            script += &role_script(*role, secret);
        }
    }
    run_script(options, password, DATABASE, &script, log)
}

/// Names are our own constants, and passwords are hexadecimal.
fn role_script(PostgresRole { name, schema }: PostgresRole, secret: &str) -> String {
    format!(
        "SELECT 'CREATE ROLE {name}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = \
         '{name}') \\gexec\nALTER ROLE {name} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION \
         NOBYPASSRLS PASSWORD '{secret}';\nGRANT CONNECT, TEMPORARY ON DATABASE {DATABASE} TO \
         {name};\nCREATE SCHEMA IF NOT EXISTS {schema};\nALTER SCHEMA {schema} OWNER TO {name};\nREVOKE ALL \
         ON SCHEMA {schema} FROM PUBLIC;\nSELECT format('ALTER %s %I.%I OWNER TO {name}', CASE c.relkind \
         WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, \
         n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r \
         ON r.oid = c.relowner WHERE n.nspname = '{schema}' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND \
         r.rolname <> '{name}' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = \
         'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN \
         ('a', 'i')) \\gexec\nSELECT format('ALTER ROUTINE %s OWNER TO {name}', p.oid::regprocedure) FROM \
         pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner WHERE \
         n.nspname = '{schema}' AND r.rolname <> '{name}' \\gexec\nSELECT format('ALTER TYPE %I.%I OWNER TO \
         {name}', n.nspname, t.typname) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN \
         pg_roles r ON r.oid = t.typowner WHERE n.nspname = '{schema}' AND t.typtype IN ('e', 'd') AND \
         r.rolname <> '{name}' \\gexec\n"
    )
}

/// Runs statements as the superuser. They go through a pipe, since passwords are among them.
fn run_script(
    options: &PostgresOptions,
    password: &str,
    database: &str,
    statements: &str,
    log: &Path,
) -> Result<(), Error> {
    let mut command = Command::new(options.binaries.bin_dir.join("psql"));
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]);
    command.args(["-p", &options.port.to_string(), "-U", USER, "-d", database, "-f", "-"]);
    // Seen by processes of our own account and root.
    command.env("PGPASSWORD", password).current_dir("/");
    run_fed(&mut command, "psql", statements, log)
}

fn run_logged(command: &mut Command, name: &'static str, log: &Path) -> Result<(), Error> {
    run_fed(command, name, "", log)
}

/// Runs a program with its output in the log and `input` as its input.
fn run_fed(command: &mut Command, name: &'static str, input: &str, log: &Path) -> Result<(), Error> {
    use std::io::Write as _;
    let output = super::open_log(log)?;
    let errors = output.try_clone().map_err(Error::file("cannot open", log))?;
    let program = PathBuf::from(command.get_program());
    let failed = || Error::file("cannot start", &program);
    let mut child = command.stdin(Stdio::piped()).stdout(output).stderr(errors).spawn().map_err(failed())?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that ends early says why by its status.
        let _ = pipe.write_all(input.as_bytes());
    }
    let status = child.wait().map_err(failed())?;
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
