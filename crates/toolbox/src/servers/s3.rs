//! SeaweedFS as an S3 server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::ports::{first_local_port, free_port_below};
use super::{Launch, Running, free_port, kept_secret, write_secret};
use crate::Error;

const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// A bucket has at least one volume. Left to itself, SeaweedFS allows as many as whole volumes of 1 GiB would find room now, and on a
/// disk with 10 GB free the eleventh bucket cannot be written to. Volumes take the room of what is in them.
const MAX_VOLUMES: u32 = 1_000;
/// SeaweedFS derives the port of its admin worker from the admin's by adding this.
const ADMIN_GRPC_OFFSET: u16 = 10_000;

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
}

/// What a client needs beside the endpoint.
#[derive(Clone)]
pub struct S3Keys {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

/// Starts SeaweedFS and waits until its S3 API answers. Keys are made at the first start and kept in the folder.
///
/// # Errors
/// It does not start; the end of its log is in the error.
pub fn start(options: &S3Options) -> Result<(Running, S3Keys), Error> {
    let data = options.dir.join("data");
    std::fs::create_dir_all(&data).map_err(Error::file("cannot make", &data))?;
    let keys = S3Keys {
        access_key: "slipway".to_owned(),
        secret_key: kept_secret(&options.dir.join("secret-key"))?,
    };
    let configuration = options.dir.join("s3.json");
    let identities = serde_json::json!({"identities": [{
        "name": "slipway",
        "credentials": [{"accessKey": keys.access_key, "secretKey": keys.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    write_secret(&configuration, &identities.to_string())?;
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
    let command = || {
        let mut command = Command::new(&options.program);
        command.arg("-logtostderr=true").arg("mini");
        command.arg(flag("dir", data.display())).arg(flag("s3.config", configuration.display()));
        // The free ports are chosen for each attempt: one of them may have been the one in use.
        command.args(arguments(options)?);
        Ok(command)
    };
    let running = launch.start(command, |_| answers(port))?;
    Ok((running, keys))
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("-{name}={value}")
}

/// Every port is said: the program's own choices collide as soon as there are two instances.
fn arguments(options: &S3Options) -> Result<Vec<String>, Error> {
    let mut arguments = vec![
        flag("ip", "127.0.0.1"),
        flag("ip.bind", "127.0.0.1"),
        flag("s3.port", options.port),
        flag("admin.port", admin_port()?),
        flag("s3.port.iceberg", 0),
        flag("s3.port.lance", 0),
        flag("s3.iam", false),
        flag("webdav", false),
        flag("admin.ui", false),
        flag("master.telemetry", false),
        flag("volume.max", MAX_VOLUMES),
    ];
    let named = [
        "s3.port.grpc",
        "master.port",
        "master.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "metricsPort",
    ];
    for name in named {
        arguments.push(flag(name, free_port()?));
    }
    Ok(arguments)
}

/// SeaweedFS listens at a fixed distance above this one, too; both lie below the ports of outgoing connections.
fn admin_port() -> Result<u16, Error> {
    free_port_below(first_local_port().saturating_sub(ADMIN_GRPC_OFFSET))
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
