//! Makes a server of this machine reachable for pods.

use std::net::SocketAddr;

use slipway_kubernetes_testkit::NODE_ADDRESS;
use tokio::net::{TcpListener, TcpStream};

/// Forwards connections to the node's address; answers with the port there.
pub(crate) async fn forward(to: SocketAddr) -> u16 {
    let listener = TcpListener::bind((NODE_ADDRESS, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut from_pod, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(to).await {
                    let _ = tokio::io::copy_bidirectional(&mut from_pod, &mut server).await;
                }
            });
        }
    });
    port
}
