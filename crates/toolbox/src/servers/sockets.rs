//! The Unix sockets over which the parts of SeaweedFS talk gRPC to each other.
//!
//! Their paths are `/tmp/seaweedfs-PART-grpc-PORT.sock` and cannot be configured. SeaweedFS does not remove
//! them when it ends, cannot replace one that another account left, and then fails each upload with
//! `connect: permission denied`. So a port is taken only if the path that goes with it can be used, and the
//! sockets are removed when the server has stopped.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ports::free_port;
use crate::Error;

const FOLDER: &str = "/tmp";
/// Another account would have to occupy the paths of all these ports.
const MAX_TRIES: u32 = 100;

/// A free port for gRPC of this part (`master`, `volume`, `filer` or `s3`), and the socket that goes with it.
/// What a server that has ended left at the path is removed.
///
/// # Errors
/// No port is free, or paths are occupied by what cannot be removed.
pub(super) fn free_grpc_port(part: &str) -> Result<(u16, PathBuf), Error> {
    let mut tries = 0;
    loop {
        let port = free_port()?;
        let socket = path(Path::new(FOLDER), part, port);
        match clear(&socket) {
            Ok(()) => return Ok((port, socket)),
            Err(error) if tries == MAX_TRIES => return Err(Error::file("cannot remove", &socket)(error)),
            Err(_) => tries += 1,
        }
    }
}

fn path(folder: &Path, part: &str, port: u16) -> PathBuf {
    folder.join(format!("seaweedfs-{part}-grpc-{port}.sock"))
}

/// Removes a file; one that is not there is fine.
pub(super) fn clear(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_an_ended_server_left_is_removed_and_what_cannot_be_removed_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let stale = path(folder.path(), "volume", 10_005);
        assert_eq!(stale.file_name().unwrap(), "seaweedfs-volume-grpc-10005.sock");
        drop(UnixListener::bind(&stale).unwrap());
        assert!(stale.exists());
        clear(&stale).unwrap();
        assert!(!stale.exists());
        clear(&stale).unwrap();
        std::fs::create_dir(&stale).unwrap();
        assert!(clear(&stale).is_err());
    }
}
