//! Makes a server of this machine reachable for pods, and unreachable for a while.

use std::net::SocketAddr;

use slipway_kubernetes_testkit::NODE_ADDRESS;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A server on the node's address.
pub(crate) struct Forward {
    pub(crate) port: u16,
    is_open: watch::Sender<bool>,
}

impl Forward {
    /// Forwards connections to the server of a URL; also the URL with the forward in its place.
    pub(crate) async fn of(url: &str) -> (Self, String) {
        let parsed = reqwest::Url::parse(url).unwrap();
        let server = parsed.socket_addrs(|| None).unwrap()[0];
        let forward = Self::begin(server).await;
        let own = url.replacen(&server.to_string(), &format!("{NODE_ADDRESS}:{}", forward.port), 1);
        assert_ne!(own, url);
        (forward, own)
    }

    /// Forwards connections to a server.
    async fn begin(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((NODE_ADDRESS, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_open, seen) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut from_pod, _)) = listener.accept().await {
                let mut seen = seen.clone();
                if !*seen.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from_pod, &mut server) => {}
                        _ = seen.wait_for(|is_open| !is_open) => {}
                    }
                });
            }
        });
        Self { port, is_open }
    }

    /// Ends all connections and takes no more, or takes them again.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }
}
