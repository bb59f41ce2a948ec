//! Which addresses a process listens on, as the kernel knows it: what answers at an address may be another
//! program.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// State of a listening socket, see `proc_net_tcp(5)`.
const LISTENS: &str = "0A";

/// TCP addresses that the process listens on with sockets of its own.
///
/// # Errors
/// There is no such process, or it is another user's and we are not root.
pub fn listeners(pid: u32) -> std::io::Result<Vec<SocketAddr>> {
    let sockets = sockets(pid)?;
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        found.extend(table.lines().skip(1).filter_map(|line| listener(line, &sockets)));
    }
    Ok(found)
}

/// Inodes of the sockets that the process has open.
fn sockets(pid: u32) -> std::io::Result<BTreeSet<String>> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    Ok(files
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect())
}

/// The address of a line of `/proc/net/tcp`, if it is that of a listener among these sockets.
fn listener(line: &str, sockets: &BTreeSet<String>) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if *state != LISTENS || !sockets.contains(*inode) {
        return None;
    }
    let (ip, port) = address.split_once(':')?;
    Some(SocketAddr::new(ip_address(ip)?, u16::from_str_radix(port, 16).ok()?))
}

/// `0100007F` is 127.0.0.1: words of 32 bits in the byte order of this machine.
fn ip_address(hex: &str) -> Option<IpAddr> {
    let word = |start: usize| u32::from_str_radix(hex.get(start..start + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (part, start) in bytes.chunks_exact_mut(4).zip((0..).step_by(8)) {
                part.copy_from_slice(&word(start)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_found_while_it_listens() {
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::1]:0");
        let ours = || listeners(std::process::id()).unwrap();
        let address = four.local_addr().unwrap();
        assert!(ours().contains(&address));
        if let Ok(six) = six {
            assert!(ours().contains(&six.local_addr().unwrap()));
        }
        drop(four);
        assert!(!ours().contains(&address));
        assert!(listeners(u32::MAX).is_err());
    }

    #[test]
    fn connections_and_sockets_of_others_are_not_listeners() {
        let line = "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0";
        let ours = BTreeSet::from(["4711".to_owned()]);
        assert_eq!(listener(line, &ours), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(listener(line, &BTreeSet::from(["12".to_owned()])), None);
        assert_eq!(listener(&line.replace(" 0A ", " 01 "), &ours), None);
        assert_eq!(listener("sl local_address rem_address", &ours), None);
        let six = line.replace("0100007F", "00000000000000000000000001000000");
        assert_eq!(listener(&six, &ours), Some("[::1]:8080".parse().unwrap()));
        assert_eq!(
            listener(&line.replace("0100007F", "00000000"), &ours),
            Some("0.0.0.0:8080".parse().unwrap())
        );
    }
}
