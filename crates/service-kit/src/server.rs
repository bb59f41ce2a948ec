//! The listener: REST and gRPC on one port, limits, drain.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::middleware::{self, AddExtension};
use axum::response::{IntoResponse as _, Response};
use axum::serve::{Listener, ListenerExt as _};
use axum::{Extension, Router};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::server::NamedService;
use tower::{Layer as _, Service};
use tower_http::catch_panic::CatchPanicLayer;

use crate::Problem;
use crate::connection;
use crate::front::{self, Front, Fronted};
use crate::health::{self, Readiness};
use crate::leave::{Leaving, Lingering};
use crate::metrics::{self, Metrics};
use crate::tls::Tls;

/// Bodies over this are refused, except on routes that set a limit of their own.
pub const DEFAULT_BODY_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// Requests in flight may take this long after the shutdown began.
const DRAIN_LIMIT_MS: u64 = 8_000;
/// From when nobody may connect any more until connections without a request are closed: who has just come may send one.
const LAST_REQUEST_MS: u64 = 200;

/// Where a service listens.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Listener")]
pub struct ListenConfig {
    /// Address for REST and gRPC. Without it: 127.0.0.1 and the service's own port.
    #[arg(long, env = "SLIPWAY_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
}

impl ListenConfig {
    /// The configured address, or 127.0.0.1 with the service's own port.
    pub fn or_port(&self, port: u16) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

/// An open port, and how connections to it are secured.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    tls: Option<Tls>,
    shows_metrics: bool,
    drain_delay: Duration,
}

impl From<TcpListener> for Port {
    fn from(listener: TcpListener) -> Self {
        Self { listener, tls: None, shows_metrics: true, drain_delay: Duration::ZERO }
    }
}

impl Port {
    /// The port with TLS, where there is one.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// The port without `/metrics`, which are somewhere else.
    #[must_use]
    pub fn without_metrics(self) -> Self {
        Self { shows_metrics: false, ..self }
    }

    /// The port, which goes on for a while after the shutdown began and asks clients to leave with each answer; a connection that is
    /// closed while it is idle may lose the request that its client is just sending.
    #[must_use]
    pub fn with_drain_delay(self, drain_delay: Duration) -> Self {
        Self { drain_delay, ..self }
    }

    /// Its address.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Adds a gRPC service to a REST router, on the same port.
pub fn add_grpc<S>(router: Router, service: S) -> Router
where
    S: Service<Request, Response = http::Response<tonic::body::Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    router.route_service(&format!("/{}/{{*method}}", S::NAME), service)
}

/// Opens the port.
///
/// # Errors
/// The port is taken or may not be used.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: is another program using the port? Choose one with --listen or SLIPWAY_LISTEN")
    })
}

/// Serves `routes` with what every service has (health, metrics, spans, body limit, a 404 as a problem) until `shutdown`,
/// then lets requests in flight end.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    port: impl Into<Port>,
    routes: Router,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let port = port.into();
    let routes = with_layers(routes, readiness, metrics, port.shows_metrics);
    run(port, |peer| with_peer(&routes, peer), shutdown).await
}

/// As [`serve`], with a front that answers some requests before they reach the routes.
///
/// # Errors
/// The listener fails.
pub async fn serve_behind<F: Front>(
    front: F,
    port: impl Into<Port>,
    routes: Router,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let port = port.into();
    let router = with_layers(routes, readiness, metrics.clone(), port.shows_metrics);
    let meters = front::meters::<F>(&metrics);
    let host = |peer| Fronted {
        front: front.clone(),
        meters: Arc::clone(&meters),
        router: with_peer(&router, peer),
    };
    run(port, host, shutdown).await
}

/// A router whose handlers can ask from where a request comes.
pub(crate) type PeersRouter = AddExtension<Router, ConnectInfo<SocketAddr>>;

fn with_peer(router: &Router, peer: SocketAddr) -> PeersRouter {
    Extension(ConnectInfo(peer)).layer(router.clone())
}

fn with_layers(routes: Router, readiness: Readiness, metrics: Metrics, shows_metrics: bool) -> Router {
    let shown = shows_metrics.then(|| metrics.clone());
    routes
        .fallback(no_such_route)
        .layer(middleware::from_fn_with_state(metrics, metrics::count_requests))
        .layer(middleware::from_fn(crate::trace::trace_request))
        .merge(health::router(readiness, shown))
        .layer(DefaultBodyLimit::max(DEFAULT_BODY_LIMIT_BYTES))
        .layer(CatchPanicLayer::custom(|_panic: Box<dyn std::any::Any + Send>| {
            Problem::internal("a handler panicked").into_response()
        }))
        .layer(middleware::map_request(crate::linger::linger))
}

/// Serves a router as it is until `shutdown`, then lets requests in flight end.
///
/// # Errors
/// The listener fails.
pub async fn serve_plain(
    port: impl Into<Port>,
    app: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    run(port.into(), |peer| with_peer(&app, peer), shutdown).await
}

/// Serves every client with a service of its own, which `host` makes.
async fn run<S>(port: Port, host: impl Fn(SocketAddr) -> S, shutdown: CancellationToken) -> anyhow::Result<()>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let closing = Arc::new(AtomicBool::new(false));
    let host = |peer| Leaving { service: host(peer), closing: Arc::clone(&closing) };
    let end = CancellationToken::new();
    let drain = Drain { shutdown, closing: Arc::clone(&closing), delay: port.drain_delay, end: end.clone() };
    match port.tls {
        // Without TCP_NODELAY small answers on kept connections wait for the client's delayed acknowledgement.
        None => {
            let listener = port.listener.tap_io(|stream| drop(stream.set_nodelay(true)));
            accept(Lingering::new(listener, Arc::clone(&closing), end)?, host, drain).await;
        }
        Some(tls) => {
            let listener = tls.accept_from(port.listener).context("the listener's address")?;
            accept(Lingering::new(listener, Arc::clone(&closing), end)?, host, drain).await;
        }
    }
    Ok(())
}

/// How a listener ends.
struct Drain {
    shutdown: CancellationToken,
    closing: Arc<AtomicBool>,
    delay: Duration,
    /// From here on nobody connects.
    end: CancellationToken,
}

impl Drain {
    /// Lets clients leave; over once connections without a request are to be closed. Until when the others may go on.
    async fn begin(self) -> Instant {
        self.shutdown.cancelled().await;
        let limit = Instant::now() + Duration::from_millis(DRAIN_LIMIT_MS);
        self.closing.store(true, Ordering::Relaxed);
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
            self.end.cancel();
            tokio::time::sleep(Duration::from_millis(LAST_REQUEST_MS)).await;
        }
        limit
    }
}

async fn accept<L, S>(mut listener: L, host: impl Fn(SocketAddr) -> S, drain: Drain)
where
    L: Listener<Addr = SocketAddr>,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let connections = TaskTracker::new();
    let hang_up = CancellationToken::new();
    let mut drained = pin!(drain.begin());
    let limit = loop {
        tokio::select! {
            limit = &mut drained => break limit,
            (stream, peer) = listener.accept() => {
                connections.spawn(connection::serve(stream, host(peer), hang_up.clone()));
            }
        }
    };
    drop(listener);
    hang_up.cancel();
    connections.close();
    if tokio::time::timeout_at(limit, connections.wait()).await.is_err() {
        tracing::warn!(limit_ms = DRAIN_LIMIT_MS, "some requests were still in flight at the end");
    }
}

async fn no_such_route(request: Request) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-route",
        "There is no such route",
        format!("{} {} is not served here", request.method(), request.uri().path()),
    )
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn who_connected_before_the_end_is_answered_and_who_comes_after_it_is_refused() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let port = Port::from(listener).with_drain_delay(Duration::from_millis(20));
        let app = Router::new().route("/", get(|| async { "answer" }));
        let served = tokio::spawn(serve_plain(port, app, shutdown.clone()));
        let mut before = TcpStream::connect(address).await.unwrap();
        shutdown.cancel();
        // Nothing was sent on these yet, nor has the server looked at all of them.
        while TcpStream::connect(address).await.is_ok() {}
        before.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        let mut answered = String::new();
        before.read_to_string(&mut answered).await.expect("no reset");
        assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with("answer"), "{answered}");
        served.await.unwrap().unwrap();
    }
}
