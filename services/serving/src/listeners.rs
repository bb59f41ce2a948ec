//! The ports: REST, gRPC and metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::{from_fn_with_state, map_request, map_response_with_state};
use axum::{Extension, Router};
use slipway_api::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use slipway_http_server::Grpc;
use slipway_http_server::health;
use slipway_http_server::server::{Port, bind_as, serve_behind, serve_plain};
use slipway_http_server::tls::Tls;
use slipway_service_kit::Drain;
use slipway_service_kit::metrics::Metrics;
use tonic::codec::CompressionEncoding;
use tonic_health::pb::health_server::HealthServer;

use crate::api::access::{self, Access};
use crate::api::drain::{HangUp, end_idle};
use crate::api::{grpc, rest, web_guard};
use crate::config::{Config, DEFAULT_PORT};
use crate::state::ServingState;

/// Descriptors of every gRPC service here, for tools such as grpcurl.
const DESCRIPTORS: [&[u8]; 2] = [slipway_api::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];

/// The ports of serving, bound.
pub(crate) struct Listeners {
    /// Open Inference Protocol over HTTP.
    pub(crate) rest: Port,
    /// The same over gRPC.
    pub(crate) grpc: Port,
    metrics: Port,
}

/// What the gRPC port answers with.
struct GrpcRoutes {
    /// Predictions.
    front: grpc::GrpcFront,
    /// Everything else.
    routes: Router,
}

impl Listeners {
    /// Binds all ports.
    ///
    /// # Errors
    /// One of them is taken.
    pub(crate) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let guard = config.listen.guard.guard()?;
        let grpc = bind_as(config.listen_grpc, "--listen-grpc or SLIPWAY_LISTEN_GRPC").await?;
        let metrics = bind_as(config.listen_metrics, "--listen-metrics or SLIPWAY_LISTEN_METRICS").await?;
        Ok(Self {
            rest: config.listen.open(DEFAULT_PORT).await?.guarded(web_guard::guard),
            grpc: Port::from(grpc).with_guard(guard.clone()),
            metrics: Port::from(metrics).with_guard(guard),
        })
    }

    /// Metrics name every model; where callers need tokens, they are on their own port only.
    pub(crate) fn secured(self, tls: Option<Tls>, access: &Access, drain_delay: Duration) -> Self {
        let secured = |port: Port| {
            let port = port.with_tls(tls.clone()).with_drain_delay(drain_delay);
            if access.is_on() { port.without_metrics() } else { port }
        };
        Self { rest: secured(self.rest), grpc: secured(self.grpc), ..self }
    }

    /// Answers until the shutdown, and until the requests in flight are answered.
    ///
    /// # Errors
    /// The descriptors of the gRPC services cannot be used.
    pub(crate) async fn serve(
        self,
        state: ServingState,
        metrics: &Metrics,
        drain: &Drain,
    ) -> anyhow::Result<()> {
        let hang_up = HangUp::new(drain);
        let GrpcRoutes { front: grpc_front, routes: grpc_routes } = GrpcRoutes::new(&state, &hang_up)?;
        let rest_front = rest::RestFront(Arc::new(state.clone()));
        let readiness = state.readiness.clone();
        // Probes come here where the other ports ask for certificates.
        let shown = health::router(readiness.clone(), Some(metrics.clone()));
        let rest = serve_behind(
            rest_front,
            self.rest,
            rest::router(state),
            readiness.clone(),
            metrics.clone(),
            drain.clone(),
        );
        let grpc =
            serve_behind(grpc_front, self.grpc, grpc_routes, readiness, metrics.clone(), drain.clone());
        let metrics = serve_plain(self.metrics, shown, drain.begun().clone());
        tokio::join!(rest, grpc, metrics);
        Ok(())
    }
}

impl GrpcRoutes {
    fn new(state: &ServingState, hang_up: &HangUp) -> anyhow::Result<Self> {
        let (access, max_message_bytes) = (state.access.clone(), state.max_body_bytes);
        let service = grpc::Service::new(
            state.predictor.clone(),
            Arc::clone(&state.settings),
            access.clone(),
            state.readiness.clone(),
        );
        let server = GrpcInferenceServiceServer::new(service.clone())
            .max_decoding_message_size(max_message_bytes)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Deflate);
        let health = HealthServer::new(grpc::HealthService::new(
            Arc::clone(&state.routing),
            state.readiness.clone(),
            access.clone(),
        ));
        let end_idle = map_response_with_state(hang_up.clone(), end_idle);
        let idle = |routes: Router| routes.layer(end_idle.clone());
        let inference =
            Grpc::default().with(server.clone()).map(|routes| routes.layer(Extension(hang_up.clone())));
        let services = inference.merge(Grpc::default().with(health).map(idle));
        let reflection = services.reflection(&DESCRIPTORS)?.map(idle);
        let mut routes = services.merge(reflection).into_router().layer(map_request(grpc::answer_as_asked));
        if access.is_on() {
            routes = routes.layer(from_fn_with_state(access.clone(), access::grpc::guard));
        }
        let front = grpc::GrpcFront(Arc::new(grpc::Infer { service, server, access, max_message_bytes }));
        Ok(Self { front, routes })
    }
}
