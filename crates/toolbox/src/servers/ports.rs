//! Free ports that stay free while their server is down.

use std::collections::HashSet;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use slipway_runtime::id;

use crate::cache::make_open;
use crate::{Error, cache_dir};

/// Ports below this belong to well-known services.
const LOWEST_PORT: u16 = 10_000;
/// Where the system takes ports of outgoing connections from.
const LOCAL_PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const USUAL_LOCAL_PORTS: u16 = 32_768;
const MAX_TRIES: u32 = 500;

/// A port that is free now, and that no other call was given: neither of this process nor of one of the same
/// user that still runs.
///
/// Another platform that starts at the same time would take the port before its server listens. It lies below
/// the ports of outgoing connections. One of those would be taken by some connection as soon as its server is
/// down for a moment, and the server could not start again.
///
/// # Errors
/// No port is free.
pub fn free_port() -> Result<u16, Error> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let ports = first_local_port().saturating_sub(LOWEST_PORT);
    for _ in 0..MAX_TRIES {
        if ports == 0 {
            break;
        }
        // Random, so that processes that ask at the same time rarely try the same ones.
        let port = LOWEST_PORT + (id::random().as_u128() % u128::from(ports)) as u16;
        if !given.contains(&port) && reserve(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    // A machine whose outgoing connections use nearly all ports.
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(Error::file("no free port on", Path::new("127.0.0.1")))
}

/// Reserves a port for as long as this process runs; `false` if another process of the same user has reserved
/// it.
///
/// Each port is a byte of one file in the cache folder, which is locked. The kernel releases the locks of a
/// process that ends. Where the file cannot be locked, nothing is reserved and every port is granted.
pub fn reserve(port: u16) -> bool {
    static RESERVATIONS: LazyLock<Option<File>> = LazyLock::new(|| {
        let folder = cache_dir().ok()?;
        make_open(&folder).ok()?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(folder.join("ports.lock")).ok()
    });
    let Some(file) = RESERVATIONS.as_ref() else { return true };
    let byte = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: libc::off_t::from(port),
        l_len: 1,
        l_pid: 0,
    };
    let locked = fcntl(file, FcntlArg::F_OFD_SETLK(&byte));
    !matches!(locked, Err(nix::Error::EAGAIN | nix::Error::EACCES))
}

/// The lowest port of outgoing connections.
fn first_local_port() -> u16 {
    std::fs::read_to_string(LOCAL_PORT_RANGE)
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(USUAL_LOCAL_PORTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_reserved_until_the_process_that_reserved_it_has_ended() {
        const ASKED: &str = "SLIPWAY_TEST_RESERVED_PORT";
        match std::env::var(ASKED).as_deref() {
            // A child: it says which port it was given, or whether it can reserve the one of its parent.
            Ok("any") => return println!("port={}", free_port().unwrap()),
            Ok(port) => return assert!(reserve(port.parse().unwrap())),
            Err(_) => {}
        }
        let name = "servers::ports::tests::a_port_is_reserved_until_the_process_that_reserved_it_has_ended";
        let child = |asked: &str| {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", name, "--nocapture"]).env(ASKED, asked).output().unwrap()
        };
        let ours = free_port().unwrap();
        assert!(!child(&ours.to_string()).status.success(), "another process got {ours} as well");
        let output = String::from_utf8(child("any").stdout).unwrap();
        let port = output.lines().find_map(|line| line.split_once("port=")).unwrap().1.parse().unwrap();
        assert!(reserve(port));
    }

    #[test]
    fn ports_are_given_once_and_not_taken_by_connections() {
        let ports: HashSet<u16> = (0..200).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 200);
        assert!(ports.iter().all(|port| (LOWEST_PORT..first_local_port()).contains(port)));
        let listener = TcpListener::bind(("127.0.0.1", free_port().unwrap())).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(client.local_addr().unwrap().port() >= first_local_port());
    }
}
