//! The listener: REST and gRPC on one port, limits, drain.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use slipway_service_kit::Drain;
use slipway_service_kit::drain::{DEFAULT_DRAIN_SECONDS, parse_drain_time};
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower_http::catch_panic::CatchPanicLayer;

use crate::Problem;
use crate::accept::accept;
use crate::front::{self, Front, Fronted};
use crate::guard::{Guard, GuardConfig, Guarded};
use crate::health;
use crate::peers::with_peer;
use crate::requests::count_requests;
use crate::tls::Tls;

/// Bodies over this are refused, except on routes that set a limit of their own.
pub const DEFAULT_BODY_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// Part of the readiness that is missing from the shutdown on.
const PROCESS_PART: &str = "process";
/// Where a service listens.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Listener")]
pub struct ListenConfig {
    /// Address for REST and gRPC. Without it: 127.0.0.1 and the service's own port.
    #[arg(long, env = "SLIPWAY_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// Time for which the service continues to answer after SIGTERM, in seconds, so that load balancers and
    /// clients notice: it is not ready, and each HTTP/1 response closes its connection. Then HTTP/2
    /// connections get GOAWAY, and requests in flight are answered. From 0 to 300.
    #[arg(long, env = "SLIPWAY_DRAIN_SECONDS", default_value = DEFAULT_DRAIN_SECONDS, value_name = "SECONDS",
        value_parser = parse_drain_time)]
    pub drain_seconds: Duration,
    /// Names and origins of the service.
    #[command(flatten)]
    pub guard: GuardConfig,
}

impl ListenConfig {
    /// The configured address, or 127.0.0.1 with the service's own port.
    pub fn or_port(&self, port: u16) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Opens the configured address, or 127.0.0.1 with the service's own port, behind the guard that is configured.
    ///
    /// # Errors
    /// As [`bind_as`], or a name or origin is not one.
    pub async fn open(&self, port: u16) -> anyhow::Result<Port> {
        let guard = self.guard.guard()?;
        let port = Port::from(bind(self.or_port(port)).await?);
        Ok(port.with_drain_delay(self.drain_seconds).with_guard(guard))
    }
}

/// An open port, and how connections to it are secured.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    tls: Option<Tls>,
    shows_metrics: bool,
    drain_delay: Duration,
    guard: Guard,
}

impl From<TcpListener> for Port {
    fn from(listener: TcpListener) -> Self {
        Self {
            listener,
            tls: None,
            shows_metrics: true,
            drain_delay: Duration::ZERO,
            guard: Guard::default(),
        }
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

    /// The port behind another guard than the default one.
    #[must_use]
    pub fn with_guard(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// The port with its guard changed for what the service's routes take and answer.
    #[must_use]
    pub fn guarded(self, change: impl FnOnce(Guard) -> Guard) -> Self {
        Self { guard: change(self.guard), ..self }
    }

    /// Its address.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Opens the port that [`ListenConfig`] says.
///
/// # Errors
/// As [`bind_as`].
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    bind_as(address, "--listen or SLIPWAY_LISTEN").await
}

/// Opens a port that another setting says: its flag and variable.
///
/// # Errors
/// The port is taken or may not be used, or the address is none of this machine; names the setting.
pub async fn bind_as(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with {setting}"))
}

/// Serves `routes` with what every service has (health, metrics, spans, body limit, a 404 as a problem) until
/// the drain begins, is not ready from then on, and lets requests in flight end. Then the drain is over.
pub async fn serve(
    port: impl Into<Port>,
    routes: Router,
    readiness: Readiness,
    metrics: Metrics,
    drain: impl Into<Drain>,
) {
    let (port, drain) = (port.into(), drain.into());
    let routes = with_layers(routes, readiness.clone(), metrics, port.shows_metrics);
    let announced = async {
        drain.begun().cancelled().await;
        readiness.waiting(PROCESS_PART, "it is stopping");
    };
    tokio::join!(run(port, |peer| with_peer(&routes, peer), &drain), announced);
    drain.over().cancel();
}

/// As [`serve`], with a front that answers some requests before they reach the routes, for a service with
/// several ports: it says itself that it is not ready, and that the drain is over.
pub async fn serve_behind<F: Front>(
    front: F,
    port: impl Into<Port>,
    routes: Router,
    readiness: Readiness,
    metrics: Metrics,
    drain: impl Into<Drain>,
) {
    let port = port.into();
    let router = with_layers(routes, readiness, metrics.clone(), port.shows_metrics);
    let meters = front::meters::<F>(&metrics);
    let host = |peer| Fronted {
        front: front.clone(),
        meters: Arc::clone(&meters),
        router: with_peer(&router, peer),
    };
    run(port, host, &drain.into()).await;
}

fn with_layers(routes: Router, readiness: Readiness, metrics: Metrics, shows_metrics: bool) -> Router {
    let shown = shows_metrics.then(|| metrics.clone());
    routes
        .fallback(no_such_route)
        .layer(middleware::from_fn_with_state(metrics, count_requests))
        .layer(middleware::from_fn(crate::trace::trace_request))
        .merge(health::router(readiness, shown))
        .layer(DefaultBodyLimit::max(DEFAULT_BODY_LIMIT_BYTES))
        .layer(CatchPanicLayer::custom(|_panic: Box<dyn std::any::Any + Send>| {
            Problem::internal("a handler panicked").into_response()
        }))
        .layer(middleware::map_request(crate::linger::linger))
}

/// Serves a router as it is until `shutdown`, then lets requests in flight end.
pub async fn serve_plain(port: impl Into<Port>, app: Router, shutdown: CancellationToken) {
    run(port.into(), |peer| with_peer(&app, peer), &shutdown.into()).await;
}

/// Serves every client with a service of its own, which `host` makes.
async fn run<S>(port: Port, host: impl Fn(SocketAddr) -> S, drain: &Drain)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let (guard, secure) = (Arc::new(port.guard), port.tls.is_some());
    let host = |peer| Guarded { service: host(peer), guard: Arc::clone(&guard), secure };
    accept(port.listener, port.tls, host, drain, port.drain_delay).await;
}

/// 404, but for a path with doubled slashes, which an address that ends with one leads to: the same path without them.
async fn no_such_route(request: Request) -> Response {
    let path = request.uri().path();
    // Browsers read a backslash as a slash, so `/\host` would lead to another host.
    if path.contains("//") && !path.contains('\\') {
        let once: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        return Redirect::permanent(&format!("/{}{query}", once.join("/"))).into_response();
    }
    let detail = format!("{} {path} is not served here", request.method());
    Problem::new(StatusCode::NOT_FOUND, "no-such-route", "No such route", detail).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn doubled_slashes_lead_to_the_path_without_them_and_to_no_other_host() {
        for (asked, led) in [
            (
                "//model-versions/get-artifact?name=m&path=a",
                Some("/model-versions/get-artifact?name=m&path=a"),
            ),
            ("/api//2.0///mlflow/", Some("/api/2.0/mlflow")),
            ("//evil.example/x", Some("/evil.example/x")),
            ("//\\evil.example/x", None),
            ("/nothing", None),
        ] {
            let request = http::Request::builder().uri(asked).body(axum::body::Body::empty()).unwrap();
            let response = no_such_route(request).await;
            let location = response.headers().get(http::header::LOCATION).map(|to| to.to_str().unwrap());
            assert_eq!(location, led, "{asked}");
            let status = if led.is_some() { StatusCode::PERMANENT_REDIRECT } else { StatusCode::NOT_FOUND };
            assert_eq!(response.status(), status, "{asked}");
        }
    }

    #[tokio::test]
    async fn a_port_that_cannot_be_had_is_told_with_its_setting_and_why() {
        let taken = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
        for (address, why) in [
            (taken.local_addr().unwrap(), "Address already in use"),
            (foreign, "Cannot assign requested address"),
        ] {
            let refused =
                format!("{:#}", bind_as(address, "--listen-grpc or SLIPWAY_LISTEN_GRPC").await.unwrap_err());
            let told = format!(
                "cannot listen on {address}; choose another address with --listen-grpc or SLIPWAY_LISTEN_GRPC: {why}"
            );
            assert!(refused.starts_with(&told), "{refused}");
        }
    }
}
