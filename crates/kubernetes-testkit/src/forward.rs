//! Makes a server of this machine reachable for pods, and unreachable for a while.

use std::net::{SocketAddr, ToSocketAddrs as _};

use slipway_runtime::task;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::NODE_ADDRESS;

/// A server on the node's address.
#[derive(Debug)]
pub struct Forward {
    /// Its port.
    pub port: u16,
    is_open: watch::Sender<bool>,
}

impl Forward {
    /// Forwards connections to the server of a URL; also the URL with the forward in its place. The process
    /// has to be on the cluster's network.
    ///
    /// # Panics
    /// The URL has no address, or there is no free port.
    #[expect(clippy::expect_used, reason = "for tests, which can only fail")]
    pub async fn of(url: &str) -> (Self, String) {
        let (_, rest) = url.split_once("://").expect("a URL");
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let server = host.to_socket_addrs().expect("an address with its port").next().expect("an address");
        let forward = Self::begin(server).await;
        let own = url.replacen(host, &format!("{NODE_ADDRESS}:{}", forward.port), 1);
        (forward, own)
    }

    /// Forwards connections to a server.
    #[expect(clippy::expect_used, reason = "for tests, which can only fail")]
    async fn begin(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((NODE_ADDRESS, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (is_open, seen) = watch::channel(true);
        let accepting = async move {
            while let Ok((mut from_pod, _)) = listener.accept().await {
                let mut seen = seen.clone();
                if !*seen.borrow() {
                    continue;
                }
                let forwarding = async move {
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from_pod, &mut server) => {}
                        _ = seen.wait_for(|is_open| !is_open) => {}
                    }
                };
                drop(task::detached("forwarded connection", forwarding));
            }
        };
        drop(task::detached("forward", accepting));
        Self { port, is_open }
    }

    /// Ends all connections and takes no more, or takes them again.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }
}
