//! The custom metrics API of Kubernetes, from what serving pods report: HorizontalPodAutoscalers read it,
//! with neither Prometheus nor an adapter.
//!
//! Source: <https://github.com/kubernetes/metrics/blob/master/pkg/apis/custom_metrics/v1beta2/types.go>.

mod answer;

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_api::proto::keda::external_scaler_server::ExternalScalerServer;
use slipway_http_server::Grpc;
use slipway_http_server::guard::GuardConfig;
use slipway_http_server::server::{Port, bind_as, serve_plain};
use slipway_http_server::tls::TlsConfig;
use slipway_runtime::clock::now_unix_ms;
use slipway_service_kit::Tasks;
use tokio_util::sync::CancellationToken;

use self::answer::{Asked, GROUP_VERSION, not_found, resources, values};
use super::keda::Scaler;
use crate::replicas::load::Loads;

/// Where the API is served.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "ModelDeployments on Kubernetes")]
pub struct CustomMetricsConfig {
    /// Address at which the custom metrics API of Kubernetes is served, for HorizontalPodAutoscalers, and the
    /// external scaler of KEDA. An APIService leads to the API. [default: not served]
    #[arg(
        long,
        env = "SLIPWAY_OPERATOR_METRICS_LISTEN",
        value_name = "HOST:PORT",
        requires = "operator_metrics_cert"
    )]
    pub operator_metrics_listen: Option<SocketAddr>,
    /// PEM file with the certificate of that address.
    #[arg(
        long,
        env = "SLIPWAY_OPERATOR_METRICS_CERT",
        value_name = "FILE",
        requires = "operator_metrics_key"
    )]
    pub operator_metrics_cert: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    #[arg(long, env = "SLIPWAY_OPERATOR_METRICS_KEY", value_name = "FILE")]
    pub operator_metrics_key: Option<PathBuf>,
    /// PEM file with the certificate authorities of clients, such as the one of the API server's front proxy.
    /// If set, each client must present a certificate signed by one of them. [default: none]
    #[arg(long, env = "SLIPWAY_OPERATOR_METRICS_CLIENT_CA", value_name = "FILE")]
    pub operator_metrics_client_ca: Option<PathBuf>,
}

/// Starts to serve the API, if it is to be served.
///
/// # Errors
/// The port is taken, or the certificate cannot be used.
pub(crate) async fn start(
    config: &CustomMetricsConfig,
    loads: Loads,
    tasks: &mut Tasks,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(address) = config.operator_metrics_listen else { return Ok(()) };
    let tls = TlsConfig {
        tls_cert: config.operator_metrics_cert.clone(),
        tls_key: config.operator_metrics_key.clone(),
        tls_client_ca: config.operator_metrics_client_ca.clone(),
    };
    let tls = tls.load()?;
    let listener = bind_as(address, "--operator-metrics-listen or SLIPWAY_OPERATOR_METRICS_LISTEN").await?;
    // The API server calls by the name of a Service.
    let guard = GuardConfig { allowed_hosts: vec!["*.svc".to_owned()], ..GuardConfig::default() }.guard()?;
    if let Some(tls) = &tls {
        tasks.spawn("custom-metrics-tls-files", tls.clone().watch(shutdown.clone()));
    }
    let port = Port::from(listener).with_tls(tls).with_guard(guard);
    tasks.spawn("custom-metrics", serve_plain(port, router(loads), shutdown.clone()));
    Ok(())
}

/// The API, and KEDA's scaler beside it.
fn router(loads: Loads) -> axum::Router {
    let root = format!("/apis/{GROUP_VERSION}");
    let scaler = ExternalScalerServer::new(Scaler(loads.clone()));
    let routes = axum::Router::new()
        .route(&root, get(async || Json(resources())))
        .route(&format!("{root}/namespaces/{{namespace}}/pods/{{pod}}/{{metric}}"), get(pods))
        .fallback(async || unknown("the server could not find the requested resource"))
        .with_state(loads);
    Grpc::beside(routes).with(scaler).into_router()
}

#[derive(Debug, Deserialize)]
struct PodsPath {
    namespace: String,
    /// `*`: all that the selector selects.
    pod: String,
    metric: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodsQuery {
    #[serde(default)]
    label_selector: String,
}

async fn pods(
    State(loads): State<Loads>,
    Path(path): Path<PodsPath>,
    Query(query): Query<PodsQuery>,
) -> Response {
    let PodsPath { namespace, pod, metric } = &path;
    let asked = Asked { namespace, pod, metric, selector: &query.label_selector };
    match values(&asked, &loads.all(), now_unix_ms()) {
        Some(values) => Json(values).into_response(),
        None => unknown(&format!("there is no metric {metric} of pods")),
    }
}

fn unknown(message: &str) -> Response {
    let status: Json<Value> = Json(json!(not_found(message)));
    (StatusCode::NOT_FOUND, status).into_response()
}
