//! NATS with JetStream.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::home::Home;
use super::{Launch, Running, accepts, kept_secret};
use crate::{Account, Error, private};

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
    /// Account that it runs as.
    pub account: Account,
    /// Its users; no other client can connect. [`Running::url`] is that of the first one.
    pub users: Vec<NatsUser>,
}

/// A user of NATS. Its password is made at the first start and kept in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsUser {
    /// Name, fit for a URL and for a file.
    pub name: String,
    /// What it may do; `None` for everything.
    pub permissions: Option<NatsPermissions>,
}

impl NatsUser {
    /// A user that may do everything.
    pub fn unlimited(name: &str) -> Self {
        Self { name: name.to_owned(), permissions: None }
    }
}

/// Subjects, with wildcards, that a user may use. Everything else is denied.
///
/// Source: <https://docs.nats.io/running-a-nats-service/configuration/securing_nats/authorization>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsPermissions {
    /// May be published to.
    pub publish: Vec<String>,
    /// May not be published to, although `publish` matches.
    pub publish_denied: Vec<String>,
    /// May be subscribed to.
    pub subscribe: Vec<String>,
}

/// URLs by user, each with the user's name and password.
pub type NatsUrls = BTreeMap<String, String>;

/// What a server has in common with the others of its cluster.
#[derive(Debug)]
pub(super) struct Membership {
    /// Name of the server, unique in the cluster.
    pub(super) server_name: String,
    /// Folder of the passwords of all users.
    pub(super) users_dir: PathBuf,
    /// The block `cluster` of the configuration.
    pub(super) cluster: serde_json::Value,
}

/// Starts NATS and waits until it takes connections.
///
/// # Errors
/// It does not start; the end of its log is in the error.
pub fn start(options: &NatsOptions) -> Result<(Running, NatsUrls), Error> {
    let alone = Membership {
        server_name: "slipway".to_owned(),
        users_dir: options.dir.join("users"),
        cluster: serde_json::Value::Null,
    };
    start_member(options, &alone)
}

pub(super) fn start_member(
    options: &NatsOptions,
    membership: &Membership,
) -> Result<(Running, NatsUrls), Error> {
    private::folder(&options.dir)?;
    let passwords = passwords(options, &membership.users_dir)?;
    let urls: NatsUrls = passwords
        .iter()
        .map(|(name, password)| {
            (name.clone(), format!("nats://{name}:{password}@127.0.0.1:{}", options.port))
        })
        .collect();
    let home = Home::below(&options.dir, options.account)?;
    home.adopt(&options.dir, &["jetstream"])?;
    let store = home.folder("jetstream")?;
    let configuration = home.write("nats.conf", &configure(options, membership, &passwords, &store))?;
    let port = options.port;
    let first = options.users.first().and_then(|user| urls.get(&user.name)).cloned();
    let launch = Launch {
        name: "NATS",
        dir: &options.dir,
        log: options.log_dir.join("nats.log"),
        url: first.unwrap_or_else(|| format!("nats://127.0.0.1:{port}")),
        port,
        stop_signal: Signal::SIGTERM,
        stop_limit: STOP_LIMIT,
        ready_limit: READY_LIMIT,
        transient: &["address already in use", "resource temporarily unavailable"],
    };
    let command = || {
        let mut command = home.command(&options.program);
        command.arg("--config").arg(&configuration);
        Ok(command.into())
    };
    Ok((launch.start(command, |_| accepts(port))?, urls))
}

fn passwords(options: &NatsOptions, folder: &Path) -> Result<BTreeMap<String, String>, Error> {
    private::folder(folder)?;
    let password = |user: &NatsUser| Ok((user.name.clone(), kept_secret(&folder.join(&user.name))?));
    options.users.iter().map(password).collect()
}

/// What was acknowledged outlives the process at once, and a power cut after the sync interval.
///
/// The file holds the passwords. It is the server's alone, and on the command line stands its path.
fn configure(
    options: &NatsOptions,
    membership: &Membership,
    passwords: &BTreeMap<String, String>,
    store: &Path,
) -> String {
    let users: Vec<serde_json::Value> =
        options.users.iter().filter_map(|user| Some(entry(user, passwords.get(&user.name)?))).collect();
    let cluster = &membership.cluster;
    let cluster = if cluster.is_null() { String::new() } else { format!("cluster: {cluster:#}\n") };
    format!(
        "listen: \"127.0.0.1:{}\"\nserver_name: \"{}\"\nmax_payload: \
         8MB\nwrite_deadline: \"10s\"\njetstream {{\n  store_dir: {}\n  max_memory_store: 64MB\n  \
         max_file_store: 8GB\n  sync_interval: \"1s\"\n}}\nauthorization: {:#}\n{cluster}",
        options.port,
        membership.server_name,
        quoted(store),
        json!({"users": users}),
    )
}

fn entry(user: &NatsUser, password: &str) -> serde_json::Value {
    match &user.permissions {
        None => json!({"user": user.name, "password": password}),
        Some(permissions) => json!({"user": user.name, "password": password, "permissions": {
            "publish": {"allow": permissions.publish, "deny": permissions.publish_denied},
            "subscribe": {"allow": permissions.subscribe},
        }}),
    }
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\""))
}
