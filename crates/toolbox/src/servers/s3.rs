//! SeaweedFS as an S3 server.
//!
//! It is several servers in one process, which talk to each other over ports of their own. Of these the S3
//! API alone is for clients. The others take nobody else: gRPC and the pages of the master require a
//! certificate that is made at each start, HTTP of the filer and the master's API are off, and volumes are
//! read and written with tokens of a few seconds that the master signs. What is left without credentials is
//! `/status` and `/healthz` of the volume server: disk usage and sizes of volumes.
//!
//! `weed server` and not `weed mini`, which starts sooner, but has an admin server and a port for metrics and
//! profiles that cannot be closed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::certificates::{self, Certificates};
use super::home::Home;
use super::sockets::free_grpc_port;
use super::{Attempt, Launch, Running, free_port, kept_secret, random_secret};
use crate::{Account, Error, private};

const READY_LIMIT: Duration = Duration::from_secs(60);
/// Its filer waits 15 s for subscribers that are parts of the same process, so that it never ends sooner by
/// itself. What it has acknowledged is with the operating system by then, and survives the end by force.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// A bucket has at least one volume. Left to itself, SeaweedFS allows as many as whole volumes of 1 GiB would
/// find room now, and on a disk with 10 GB free the eleventh bucket cannot be written to. Volumes take the
/// room of what is in them.
const MAX_VOLUMES: u32 = 1_000;
/// A volume that is larger gets no new files. Small ones give room back sooner: a volume is rewritten without
/// what was deleted.
const VOLUME_LIMIT_MB: u32 = 128;

/// How SeaweedFS is to run.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The `weed` program.
    pub program: PathBuf,
    /// Folder of its data; made where it is not there.
    pub dir: PathBuf,
    /// Folder of its log.
    pub log_dir: PathBuf,
    /// Port of the S3 API on 127.0.0.1.
    pub port: u16,
    /// Account that it runs as.
    pub account: Account,
}

/// What a client needs next to the endpoint.
#[derive(Clone)]
pub struct S3Keys {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

/// Starts SeaweedFS and waits until its S3 API answers. Keys are made at the first start and kept in the
/// folder.
///
/// # Errors
/// It does not start; the end of its log is in the error.
pub fn start(options: &S3Options) -> Result<(Running, S3Keys), Error> {
    private::folder(&options.dir)?;
    let keys = S3Keys {
        access_key: "slipway".to_owned(),
        secret_key: kept_secret(&options.dir.join("secret-key"))?,
    };
    let home = Home::below(&options.dir, options.account)?;
    home.adopt(&options.dir, &["data"])?;
    let data = home.folder("data")?;
    let identities = serde_json::json!({"identities": [{
        "name": "slipway",
        "credentials": [{"accessKey": keys.access_key, "secretKey": keys.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    let configuration = home.write("s3.json", &identities.to_string())?;
    let security = secure(&home)?;
    let port = options.port;
    let launch = Launch {
        name: "SeaweedFS",
        dir: &options.dir,
        log: options.log_dir.join("s3.log"),
        url: format!("http://127.0.0.1:{port}"),
        port,
        stop_signal: Signal::SIGTERM,
        stop_limit: STOP_LIMIT,
        ready_limit: READY_LIMIT,
        transient: &["address already in use", "Port allocation failed", "resource temporarily unavailable"],
    };
    let attempt = || {
        let mut command = home.command(&options.program);
        command.arg("-logtostderr=true").arg(flag("config_dir", security.display())).arg("server");
        command.arg(flag("dir", data.display())).arg(flag("s3.config", configuration.display()));
        for name in ["filer", "s3"] {
            let socket = security.join(format!("{name}.sock"));
            command.arg(flag(&format!("{name}.localSocket"), socket.display()));
        }
        // The free ports are chosen for each attempt: one of them may have been the one in use.
        let (ports, leaves) = free_ports()?;
        command.args(arguments(options)).args(ports);
        Ok(Attempt { command, leaves })
    };
    Ok((launch.start(attempt, |_| answers(port))?, keys))
}

/// Writes certificates and keys for this start, and `security.toml` with them; where the server finds these
/// files.
fn secure(home: &Home) -> Result<PathBuf, Error> {
    let made = certificates::make()
        .map_err(|error| Error::Certificates { name: "SeaweedFS", reason: error.to_string() })?;
    let folder = home.folder("security")?;
    let Certificates { authority, certificate, key } = made;
    for (name, text) in [("authority.pem", &authority), ("certificate.pem", &certificate), ("key.pem", &key)]
    {
        home.write(&format!("security/{name}"), text)?;
    }
    home.write("security/security.toml", &security(&folder))?;
    Ok(folder)
}

/// Parts that talk gRPC, as `weed scaffold -config=security` lists them.
const GRPC_PARTS: [&str; 4] = ["volume", "master", "filer", "s3"];

/// SeaweedFS' `security.toml`, see `weed scaffold -config=security`.
fn security(folder: &Path) -> String {
    let path = |name: &str| quoted(&folder.join(name));
    let pair = format!("cert = {}\nkey = {}\n", path("certificate.pem"), path("key.pem"));
    let authority = format!("ca = {}\n", path("authority.pem"));
    let mut text = format!(
        "[access]\nui = false\n[filer.expose_directory_metadata]\nenabled = false\n[grpc]\n{authority}"
    );
    for part in GRPC_PARTS.iter().chain(&["client"]) {
        text += &format!("[grpc.{part}]\n{pair}");
    }
    // Volumes are left to their tokens: TLS would slow every upload.
    text += &format!("[https.master]\n{authority}{pair}");
    for part in ["signing", "signing.read", "filer_signing", "filer_signing.read"] {
        text += &format!("[jwt.{part}]\nkey = \"{}\"\n", random_secret());
    }
    text
}

/// A basic string of TOML.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\""))
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("-{name}={value}")
}

fn arguments(options: &S3Options) -> Vec<String> {
    vec![
        flag("ip", "127.0.0.1"),
        flag("ip.bind", "127.0.0.1"),
        flag("s3.port", options.port),
        flag("filer", true),
        flag("s3", true),
        // No HTTP API of the master and the filer: the S3 API uses their gRPC.
        flag("disableHttp", true),
        flag("s3.port.iceberg", 0),
        flag("s3.port.lance", 0),
        flag("s3.iam", false),
        flag("iam", false),
        flag("webdav", false),
        flag("master.telemetry", false),
        // There is one master; it need not wait for others before it leads.
        flag("master.electionTimeout", "1s"),
        flag("master.volumeSizeLimitMB", VOLUME_LIMIT_MB),
        flag("volume.max", MAX_VOLUMES),
    ]
}

/// Flags that name every port but that of the S3 API, since the program's own choices collide as soon as
/// there are two instances; and the sockets that it makes for them.
fn free_ports() -> Result<(Vec<String>, Vec<PathBuf>), Error> {
    let (mut flags, mut sockets) = (Vec::new(), Vec::new());
    for name in ["master.port", "filer.port", "volume.port"] {
        flags.push(flag(name, free_port()?));
    }
    for part in GRPC_PARTS {
        let (port, socket) = free_grpc_port(part)?;
        flags.push(flag(&format!("{part}.port.grpc"), port));
        sockets.push(socket);
    }
    Ok((flags, sockets))
}

/// The S3 API is up when its health route says so; the port alone opens earlier.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut start = [0u8; 12];
        stream.read_exact(&mut start)?;
        Ok(start.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}
