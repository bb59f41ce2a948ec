//! `grpc.health.v1`: the server as a whole, its services, and each model by its name.
//!
//! Source: gRPC Health Checking Protocol (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use slipway_api::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use slipway_service_kit::health::Readiness;
use tokio::sync::watch;
use tonic::server::NamedService as _;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::service::Service;
use crate::api::access::{Access, Caller, Need};
use crate::api::describe;
use crate::api::drain::PROCESS_PART;
use crate::failure::Kind;
use crate::models::routing::Routing;

/// How often a watch looks at the readiness; changes of models are seen immediately.
const WATCH_INTERVAL_MS: u64 = 250;

/// Services that are as ready as the server. The empty name stands for the server as a whole. A model of such
/// a name is not found here.
const SERVICES: [&str; 4] = [
    "",
    GrpcInferenceServiceServer::<Service>::NAME,
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct HealthService {
    routing: Arc<Routing>,
    readiness: Readiness,
    access: Access,
}

impl HealthService {
    /// A service that reports on `routing`'s models.
    pub(crate) const fn new(routing: Arc<Routing>, readiness: Readiness, access: Access) -> Self {
        Self { routing, readiness, access }
    }

    fn status(&self, service: &str) -> ServingStatus {
        let missing = self.readiness.missing();
        if SERVICES.contains(&service) {
            return if missing.is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing };
        }
        match describe::ready(&self.routing, service, None) {
            Err(failure) if failure.kind == Kind::NotFound && self.routing.get(service).is_err() => {
                ServingStatus::ServiceUnknown
            }
            // A model may answer before the server is ready for all of them, and does not once the server
            // stops.
            Ok(()) if !missing.contains_key(PROCESS_PART) => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        }
    }

    /// The service that a message asks about. Health of the server needs no token, that of a model a token
    /// for it.
    fn asked(&self, request: Request<HealthCheckRequest>) -> Result<String, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let service = request.into_inner().service;
        if !SERVICES.contains(&service.as_str()) {
            self.access.check(caller.as_ref(), Need::Model(&service))?;
        }
        Ok(service)
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = self.asked(request)?;
        match self.status(&service) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("unknown service or model '{service}'")))
            }
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = self.asked(request)?;
        let watched = Watched { health: self.clone(), service, changes: self.routing.changes(), shown: None };
        let stream = futures::stream::unfold(watched, async |mut watched| {
            let status = watched.next().await?;
            Some((Ok(HealthCheckResponse { status: status.into() }), watched))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// A service whose status is watched. One that is unknown may appear later.
struct Watched {
    health: HealthService,
    service: String,
    changes: watch::Receiver<u64>,
    shown: Option<ServingStatus>,
}

impl Watched {
    /// The status, as soon as it is another one than was shown last; `None` at the end of the process.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            self.changes.mark_unchanged();
            let status = self.health.status(&self.service);
            if self.shown.replace(status) != Some(status) {
                return Some(status);
            }
            let changed = self.changes.changed();
            if let Ok(Err(_ended)) =
                tokio::time::timeout(Duration::from_millis(WATCH_INTERVAL_MS), changed).await
            {
                return None;
            }
        }
    }
}
