//! Another user of the same machine: no port answers without credentials, and no file can be read.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Door;
use super::platform::Platform;

/// Servers that only the services may use.
const PRIVATE: [&str; 3] = ["nats", "postgres", "s3"];
/// A user that owns nothing.
const OTHER_UID: u32 = 54_321;
/// Files named in a report; the rest is counted.
const MAX_NAMED: usize = 5;
/// How long a server may take to answer a probe.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Pages of SeaweedFS and NATS that show or change data.
const PAGES: [&str; 12] = [
    "/",
    "/dir/assign",
    "/dir/status",
    "/dir/lookup?volumeId=1",
    "/vol/status",
    "/cluster/status",
    "/stats/counter",
    "/metrics",
    "/debug/pprof/",
    "/varz",
    "/connz",
    "/jsz?streams=true",
];

pub(super) async fn doors(platform: &Platform) -> anyhow::Result<Vec<Door>> {
    Ok(vec![ports(platform).await?, postgres(platform).await, files(platform)?, secrets(platform)?])
}

async fn ports(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("local user: ports of Postgres, NATS and SeaweedFS without credentials");
    for server in PRIVATE {
        for address in listening(platform.endpoints.pid(server)?) {
            let away = !address.ip().is_loopback();
            door.attempt(away.then(|| format!("{server} listens on {address}, which other machines reach")));
            door.attempt(nats(address).await.map(|what| format!("{server} at {address}: {what}")));
            door.attempt(plain_grpc(address).await.map(|what| format!("{server} at {address}: {what}")));
            for page in PAGES {
                let answer =
                    platform.http.get(format!("http://{address}{page}")).timeout(PATIENCE).send().await;
                let open = answer.is_ok_and(|answer| answer.status().is_success());
                door.attempt(open.then(|| format!("{server} at {address}: GET {page} is answered")));
            }
            for method in [reqwest::Method::PUT, reqwest::Method::POST, reqwest::Method::DELETE] {
                let url = format!("http://{address}/attack/file.txt");
                let request = platform.http.request(method.clone(), url).timeout(PATIENCE).body("attack");
                let open = request.send().await.is_ok_and(|answer| answer.status().is_success());
                door.attempt(open.then(|| format!("{server} at {address}: {method} of a file is accepted")));
            }
        }
    }
    anyhow::ensure!(door.attempts > 0, "no port of a private server was found");
    Ok(door)
}

/// Addresses that a process and its children listen on.
fn listening(pid: u32) -> BTreeSet<SocketAddr> {
    // A child may end meanwhile.
    family(pid).into_iter().filter_map(|pid| slipway_toolbox::listeners(pid).ok()).flatten().collect()
}

fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(family);
    std::iter::once(pid).chain(children).collect()
}

/// What a server answers to these bytes.
async fn answer(address: SocketAddr, greeting: bool, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let mut buffer = vec![0; 4_096];
        if greeting {
            let _ = tokio::time::timeout(PATIENCE / 3, stream.read(&mut buffer)).await.ok()?;
        }
        stream.write_all(bytes).await.ok()?;
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.ok()?.ok()?;
        buffer.truncate(read);
        Some(buffer)
    };
    exchange.await.unwrap_or_default()
}

async fn nats(address: SocketAddr) -> Option<String> {
    let bytes = b"CONNECT {\"verbose\":true,\"pedantic\":false}\r\nPING\r\nSUB > 1\r\n";
    let answer = answer(address, true, bytes).await;
    let text = String::from_utf8_lossy(&answer);
    (text.starts_with("+OK") || text.contains("PONG"))
        .then(|| "NATS accepts a client without credentials".to_owned())
}

/// A server that answers HTTP/2 settings in the clear takes gRPC calls of anybody.
async fn plain_grpc(address: SocketAddr) -> Option<String> {
    const SETTINGS: u8 = 4;
    let answer = answer(address, false, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    (answer.get(3) == Some(&SETTINGS)).then(|| "gRPC without TLS".to_owned())
}

async fn postgres(platform: &Platform) -> Door {
    let mut door = Door::new("local user: Postgres without a password");
    let url = platform.endpoints.url("postgres").unwrap_or_default();
    let place = url.rsplit('@').next().unwrap_or_default().trim_start_matches("postgres://");
    for user in ["postgres", "slipway", "registry", "slipway_registry", "root", "nobody"] {
        for database in [place.to_owned(), place.replace("/slipway", "/postgres")] {
            for password in ["", ":slipway", ":postgres"] {
                let url = format!("postgres://{user}{password}@{database}");
                let connected = tokio::time::timeout(PATIENCE, sqlx::PgConnection::connect(&url)).await;
                let open = connected.is_ok_and(|connected| connected.is_ok());
                door.attempt(open.then(|| format!("{user} at {database} with the password `{password}`")));
            }
        }
    }
    door
}

fn files(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("local user: files of the data directory");
    let mut wide = Vec::new();
    walk(&platform.data_dir, &mut |path, mode| {
        // SeaweedFS gives these a mode of its own, in a folder that is closed.
        let is_its_own = path.extension().is_some_and(|extension| extension == "vif");
        if mode & 0o077 != 0 && !is_its_own {
            wide.push(format!("{} has the mode {mode:04o}", path.display()));
        }
    })?;
    door.attempts += wide.len().max(1);
    let more = wide.len().saturating_sub(MAX_NAMED);
    wide.truncate(MAX_NAMED);
    door.open.extend(wide);
    if more > 0 {
        door.open.push(format!("and {more} more"));
    }
    if !nix::unistd::geteuid().is_root() {
        door.left_out = Some("reading as another user needs root".to_owned());
        return Ok(door);
    }
    let mut find = Command::new("find");
    find.arg(&platform.data_dir)
        .args(["-mindepth", "1", "-readable", "-print", "-quit"])
        .uid(OTHER_UID)
        .gid(OTHER_UID);
    let found = find.output().context("cannot start find")?;
    let text = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    door.attempt((!text.is_empty()).then(|| format!("another user reads {text}")));
    Ok(door)
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path, u32)) -> anyhow::Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let metadata =
            std::fs::metadata(&folder).with_context(|| format!("cannot look at {}", folder.display()))?;
        visit(&folder, metadata.permissions().mode() & 0o7777);
        for entry in entries.flatten() {
            // What was removed meanwhile is no door.
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                visit(&entry.path(), metadata.mode() & 0o7777);
            }
        }
    }
    Ok(())
}

/// Secrets that every user reads in the list of processes.
fn secrets(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("local user: secrets in the arguments of processes");
    let secrets = secrets_of(platform)?;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(arguments) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let arguments = String::from_utf8_lossy(&arguments);
        let shown = secrets.iter().any(|secret| arguments.contains(secret.as_str()));
        door.attempt(shown.then(|| {
            let program = arguments.split('\0').next().unwrap_or_default().to_owned();
            format!("{program} ({}) has a secret in its arguments", entry.file_name().to_string_lossy())
        }));
    }
    Ok(door)
}

/// Every secret that lies in the data directory.
pub(super) fn secrets_of(platform: &Platform) -> anyhow::Result<Vec<String>> {
    let mut secrets = vec![platform.admin_token.clone()];
    collect(platform.endpoints.document(), &mut secrets);
    let credentials = std::fs::read_to_string(platform.data_dir.join("credentials.json"));
    collect(&serde_json::from_str(&credentials.context("cannot read credentials.json")?)?, &mut secrets);
    Ok(secrets)
}

/// Texts that are long enough for a secret; of URLs, the password.
fn collect(value: &Value, into: &mut Vec<String>) {
    const SHORTEST: usize = 16;
    match value {
        Value::String(text) => {
            let secret = match text.split_once("://") {
                Some((_, rest)) => {
                    let credentials = rest.rsplit_once('@').map_or("", |(credentials, _)| credentials);
                    credentials.split_once(':').map_or("", |(_, password)| password)
                }
                None => text,
            };
            if secret.len() >= SHORTEST {
                into.push(secret.to_owned());
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
        Value::Object(values) => values.values().for_each(|value| collect(value, into)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_urls_and_objects() {
        let mut found = Vec::new();
        let url = "postgres://slipway:0123456789abcdef@127.0.0.1:1/slipway";
        collect(
            &serde_json::json!({"a": url, "b": ["0123456789abcdefg", "short"],
                "c": "http://127.0.0.1:5000/long/path"}),
            &mut found,
        );
        assert_eq!(found, ["0123456789abcdef", "0123456789abcdefg"]);
    }
}
