//! Free ports that stay free while their server is down.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::Error;

/// Ports below this belong to well-known services.
const LOWEST_PORT: u16 = 10_000;
/// Where the system takes ports of outgoing connections from.
const LOCAL_PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const USUAL_LOCAL_PORTS: u16 = 32_768;
const MAX_TRIES: u32 = 500;

/// A port that is free now, and that no other call of this process was given.
///
/// It lies below the ports of outgoing connections. One of those would be taken by some connection as soon as its server is down for a
/// moment, and the server could not start again.
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
        let port = LOWEST_PORT + (uuid::Uuid::new_v4().as_u128() % u128::from(ports)) as u16;
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
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
    fn ports_are_given_once_and_not_taken_by_connections() {
        let ports: HashSet<u16> = (0..200).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 200);
        assert!(ports.iter().all(|port| (LOWEST_PORT..first_local_port()).contains(port)));
        let listener = TcpListener::bind(("127.0.0.1", free_port().unwrap())).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(client.local_addr().unwrap().port() >= first_local_port());
    }
}
