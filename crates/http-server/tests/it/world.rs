//! A server on a free port of loopback, and a client.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use reqwest::Client;
use slipway_http_server::server::{self, Port};
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A slow machine needs this long at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that is shut down with its test.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
    /// Ends once the server has.
    pub(crate) serving: JoinHandle<()>,
}

/// A port that the system chose.
pub(crate) async fn free_port() -> Port {
    Port::from(server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap())
}

impl World {
    /// Serves routes on a free port.
    pub(crate) async fn serve(routes: Router) -> Self {
        Self::serve_on(free_port().await, routes)
    }

    /// [`Self::serve`] on a port with settings of its own.
    pub(crate) fn serve_on(port: Port, routes: Router) -> Self {
        Self::start(port, |port, readiness, metrics, shutdown| {
            tokio::spawn(server::serve(port, routes, readiness, metrics, shutdown))
        })
    }

    /// Starts a server of any kind.
    pub(crate) fn start(
        port: Port,
        serve: impl FnOnce(Port, Readiness, Metrics, CancellationToken) -> JoinHandle<()>,
    ) -> Self {
        slipway_runtime::install_tls_provider();
        let (address, shutdown) = (port.local_addr().unwrap(), CancellationToken::new());
        let (readiness, metrics) = (Readiness::default(), Metrics::new());
        let serving = serve(port, readiness.clone(), metrics.clone(), shutdown.clone());
        Self { address, readiness, metrics, shutdown, serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Whether a series is shown with this value, e.g. `slipway_http_requests_total{…} 1`.
    pub(crate) fn counts(&self, series: &str) -> bool {
        self.metrics.render().lines().any(|line| line == series)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A client that follows no redirects.
pub(crate) fn client() -> Client {
    slipway_runtime::install_tls_provider();
    Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// The JSON that a URL returns, with its status.
pub(crate) async fn get(url: String) -> (u16, serde_json::Value) {
    let answer = client().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Waits for something that takes a moment.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_late) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}
