//! TCP proxies between replicas and what they connect to: they can be cut, and leave nothing behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::board::Board;
use super::faults::{Cut, Service};

const BUFFER_BYTES: usize = 16 * 1024;

/// Whether bytes pass.
type State = Option<Cut>;

/// A connection between one replica and one server, which can be cut.
#[derive(Debug)]
pub(super) struct Link {
    /// Port on 127.0.0.1 that the replica connects to.
    pub(super) port: u16,
    state: watch::Sender<State>,
}

impl Link {
    /// Listens, and forwards connections to the port of the server.
    pub(super) async fn to(server: u16) -> anyhow::Result<Self> {
        let (listener, port) = listen().await?;
        let (state, watched) = watch::channel(None);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server, watched.clone()));
            }
        });
        Ok(Self { port, state })
    }

    /// Cuts it, or lets bytes pass again.
    pub(super) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn listen() -> anyhow::Result<(TcpListener, u16)> {
    let port = slipway_toolbox::servers::free_port()?;
    let listener = TcpListener::bind(local(port)).await.with_context(|| format!("port {port}"))?;
    Ok((listener, port))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Forwards one connection until either side ends it, or it is reset.
async fn forward(client: TcpStream, server: u16, mut state: watch::Receiver<State>) {
    if state.wait_for(|state| *state != Some(Cut::Silent)).await.is_err() || state.borrow().is_some() {
        return;
    }
    let Ok(upstream) = TcpStream::connect(local(server)).await else { return };
    join(client, upstream, &state).await;
}

async fn join(client: TcpStream, upstream: TcpStream, state: &watch::Receiver<State>) {
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), upstream.into_split());
    let mut reset = state.clone();
    tokio::select! {
        _ = async { tokio::try_join!(
            pump(from_client, to_server, state.clone()),
            pump(from_server, to_client, state.clone()),
        ) } => {}
        _ = reset.wait_for(|state| *state == Some(Cut::Reset)) => {}
    }
}

/// Copies one direction. Bytes that arrive while the link is silent are delivered afterwards.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = vec![0u8; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if state.wait_for(|state| *state != Some(Cut::Silent)).await.is_err() {
            return Ok(());
        }
        match buffer.get(..read) {
            Some(bytes) if read > 0 => to.write_all(bytes).await?,
            _ => return to.shutdown().await,
        }
    }
}

/// One address for all replicas of a service, as a load balancer in front of them: each connection goes to a
/// replica that is ready.
pub(super) async fn balance(service: Service, board: Arc<Board>) -> anyhow::Result<u16> {
    let (listener, port) = listen().await?;
    tokio::spawn(async move {
        let next = AtomicUsize::new(0);
        while let Ok((client, _)) = listener.accept().await {
            let start = next.fetch_add(1, Ordering::Relaxed);
            let replicas = board.candidates(service, start);
            let ports: Vec<u16> = replicas.into_iter().map(|replica| board.port(replica)).collect();
            tokio::spawn(async move {
                let (_open, state) = watch::channel(None);
                for port in ports {
                    if let Ok(upstream) = TcpStream::connect(local(port)).await {
                        return join(client, upstream, &state).await;
                    }
                }
            });
        }
    });
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that returns every byte.
    async fn echo() -> u16 {
        let (listener, port) = listen().await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
            }
        });
        port
    }

    async fn exchange(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_silent_link_delivers_later_and_a_reset_one_ends_connections() {
        let link = Link::to(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(local(link.port)).await.unwrap();
        assert_eq!(exchange(&mut stream).await.unwrap(), b'x');

        link.set(Some(Cut::Silent));
        stream.write_all(b"y").await.unwrap();
        let mut early = [0u8; 1];
        let waited = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(waited, stream.read(&mut early)).await.is_err());
        link.set(None);
        assert_eq!(stream.read_u8().await.unwrap(), b'y');

        link.set(Some(Cut::Reset));
        assert!(exchange(&mut stream).await.is_err());
        let mut refused = TcpStream::connect(local(link.port)).await.unwrap();
        assert!(exchange(&mut refused).await.is_err());
        link.set(None);
        let mut stream = TcpStream::connect(local(link.port)).await.unwrap();
        assert_eq!(exchange(&mut stream).await.unwrap(), b'x');
    }
}
