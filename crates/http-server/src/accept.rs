//! The loop that takes connections, and how it ends: each response asks clients to disconnect, then no
//! connection is accepted any more, then connections without a request are closed, and at last those whose
//! request took too long.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use axum::serve::Listener as _;
use futures::FutureExt as _;
use slipway_service_kit::Drain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::connection;
use crate::leave::{Leaving, LingeringStream};
use crate::tls::Tls;

/// Requests in flight may take this long after the drain time.
const DRAIN_LIMIT_MS: u64 = 8_000;
/// Time between the last accepted connection and the closing of connections without a request: new clients
/// may still send one.
const LAST_REQUEST_MS: u64 = 200;
/// Maximum number of connections that are accepted from the system's queue at the end.
const LAST_CONNECTIONS: usize = 4_096;

/// Takes connections and serves each with a service of its own, which `host` makes, for `drain_delay` longer
/// than until the drain begins.
pub(crate) async fn accept<S>(
    mut listener: TcpListener,
    tls: Option<Tls>,
    host: impl Fn(SocketAddr) -> S,
    drain: &Drain,
    drain_delay: Duration,
) where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let clients = Clients {
        host,
        tls,
        closing: Arc::default(),
        hang_up: CancellationToken::new(),
        connections: TaskTracker::new(),
    };
    clients.take_until(&mut listener, drain.begun().cancelled()).await;
    clients.closing.store(true, Ordering::Relaxed);
    if drain_delay.is_zero() {
        drain.hang_up().cancel();
        drop(listener);
    } else {
        clients.take_until(&mut listener, tokio::time::sleep(drain_delay)).await;
        drain.hang_up().cancel();
        clients.take_queued(&mut listener);
        // Later connections are refused, so their clients know that nothing was lost.
        drop(listener);
        tokio::time::sleep(Duration::from_millis(LAST_REQUEST_MS)).await;
    }
    clients.hang_up.cancel();
    clients.connections.close();
    let limit = Instant::now() + Duration::from_millis(DRAIN_LIMIT_MS);
    if tokio::time::timeout_at(limit, clients.connections.wait()).await.is_err() {
        tracing::warn!(limit_ms = DRAIN_LIMIT_MS, "requests still in flight at shutdown");
    }
}

/// Those who are connected, and how they are served.
struct Clients<H> {
    host: H,
    tls: Option<Tls>,
    /// Set once they are asked to leave.
    closing: Arc<AtomicBool>,
    /// Once set, connections without a request in flight are closed.
    hang_up: CancellationToken,
    connections: TaskTracker,
}

/// A connection of which nothing has been read.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    /// To shake hands, where the port has TLS.
    permit: Option<OwnedSemaphorePermit>,
}

impl<H, S> Clients<H>
where
    H: Fn(SocketAddr) -> S,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    async fn take_until(&self, listener: &mut TcpListener, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                accepted = self.next(listener) => self.serve(accepted),
            }
        }
    }

    fn take_queued(&self, listener: &mut TcpListener) {
        for _ in 0..LAST_CONNECTIONS {
            let Some(accepted) = self.next(listener).now_or_never() else { return };
            self.serve(accepted);
        }
    }

    async fn next(&self, listener: &mut TcpListener) -> Accepted {
        let permit = match &self.tls {
            Some(tls) => tls.admit().await,
            None => None,
        };
        let (stream, peer) = listener.accept().await;
        // Without it small answers on kept connections wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        Accepted { stream, peer, permit }
    }

    fn serve(&self, Accepted { stream, peer, permit }: Accepted) {
        let closing = Arc::clone(&self.closing);
        let service = Leaving { service: (self.host)(peer), closing: Arc::clone(&closing) };
        let hang_up = self.hang_up.clone();
        match self.tls.clone() {
            None => {
                let stream = LingeringStream::new(stream, closing);
                self.connections.spawn(connection::serve(stream, service, hang_up));
            }
            Some(tls) => {
                self.connections.spawn(async move {
                    let secured = tokio::select! {
                        secured = tls.secure(stream, peer) => secured,
                        () = hang_up.cancelled() => None,
                    };
                    drop(permit);
                    if let Some(stream) = secured {
                        let stream = LingeringStream::new(stream, closing);
                        connection::serve(stream, service, hang_up).await;
                    }
                });
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn who_connected_before_the_end_is_answered_and_who_comes_after_it_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let app = Router::new().route("/", get(|| async { "answer" }));
        let host = move |_peer| app.clone();
        let drain = Drain::new(shutdown.clone());
        let served =
            tokio::spawn(
                async move { accept(listener, None, host, &drain, Duration::from_millis(20)).await },
            );
        let mut before = TcpStream::connect(address).await.unwrap();
        shutdown.cancel();
        // Nothing was sent on these yet, nor has the server looked at all of them.
        while TcpStream::connect(address).await.is_ok() {}
        before.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        let mut answered = String::new();
        before.read_to_string(&mut answered).await.expect("no reset");
        assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with("answer"), "{answered}");
        served.await.unwrap();
    }
}
