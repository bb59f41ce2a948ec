//! A network between two programs that can be cut.
//!
//! Network namespaces would need root and leave interfaces behind where a test is killed. A proxy on
//! 127.0.0.1 behaves like a cable that is pulled: while it is cut nothing arrives, no connection is closed,
//! and a new one is not answered. What was sent arrives when it is mended, as a retransmission would.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::free_port;
use crate::Error;

const BUFFER_BYTES: usize = 64 * 1024;
/// Ports that are tried.
const MAX_TRIES: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Cut,
    /// The link is dropped.
    Gone,
}

#[derive(Debug)]
struct Cable {
    state: Mutex<State>,
    changed: Condvar,
}

impl Cable {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_all();
    }

    /// Waits while it is cut; `false` once the link is gone.
    fn passes(&self) -> bool {
        let cut = self.changed.wait_while(self.lock(), |state| *state == State::Cut);
        *cut.unwrap_or_else(PoisonError::into_inner) == State::Whole
    }
}

/// Forwards connections to another port of this machine until it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    cable: Arc<Cable>,
}

impl Link {
    /// A whole link to `port` of 127.0.0.1, where a server listens now or later.
    ///
    /// # Errors
    /// No port is free.
    pub fn to(port: u16) -> Result<Self, Error> {
        let (listener, address) = listen()?;
        let cable = Arc::new(Cable { state: Mutex::new(State::Whole), changed: Condvar::new() });
        let forwarding = Arc::clone(&cable);
        std::thread::spawn(move || accept(&listener, port, &forwarding));
        Ok(Self { address, cable })
    }

    /// Its own port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Nothing arrives from now on, in either direction.
    pub fn cut(&self) {
        self.cable.set(State::Cut);
    }

    /// Everything arrives again, also what was sent meanwhile.
    pub fn mend(&self) {
        self.cable.set(State::Whole);
    }
}

/// Listens on a free port. Another process may take a port in the moment after it was found to be free.
fn listen() -> Result<(TcpListener, SocketAddr), Error> {
    let mut tries = 1;
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        match TcpListener::bind(address) {
            Ok(listener) => return Ok((listener, address)),
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries < MAX_TRIES => tries += 1,
            Err(error) => {
                return Err(Error::file("cannot listen on", Path::new(&address.to_string()))(error));
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cable.set(State::Gone);
        // The thread that accepts connections notices with the next one.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, port: u16, cable: &Arc<Cable>) {
    for client in listener.incoming().flatten() {
        if *cable.lock() == State::Gone {
            return;
        }
        let cable = Arc::clone(cable);
        std::thread::spawn(move || connect(client, port, &cable));
    }
}

/// Where the server does not listen, the client's connection is closed.
fn connect(client: TcpStream, port: u16, cable: &Arc<Cable>) {
    if !cable.passes() {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let back = Arc::clone(cable);
    std::thread::spawn(move || forward(from_server, client, &back));
    forward(from_client, server, cable);
}

fn forward(mut from: TcpStream, mut to: TcpStream, cable: &Cable) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        // Neither does the end of a connection arrive while the link is cut.
        if !cable.passes() || read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_arrives_through_a_link_that_is_cut_until_it_is_mended() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let link = Link::to(server.local_addr().unwrap().port()).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", link.port())).unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        let mut read = [0; 1];
        client.write_all(b"1").unwrap();
        accepted.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"1");
        link.cut();
        client.write_all(b"2").unwrap();
        accepted.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        assert!(accepted.read_exact(&mut read).is_err(), "it arrived");
        link.mend();
        accepted.set_read_timeout(None).unwrap();
        accepted.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"2");
        drop(link);
        let mut rest = Vec::new();
        drop(client);
        assert_eq!(accepted.read_to_end(&mut rest).unwrap_or(0), 0);
    }
}
