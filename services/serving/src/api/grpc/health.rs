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

    /// The service that a message asks about.
    fn asked(&self, request: Request<HealthCheckRequest>) -> Result<Asked, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let asked = Asked { service: request.into_inner().service, caller };
        self.admit(&asked)?;
        Ok(asked)
    }

    /// Health of the server needs no token, that of a model a token for it.
    fn admit(&self, Asked { service, caller }: &Asked) -> Result<(), Status> {
        if !SERVICES.contains(&service.as_str()) {
            self.access.check(caller.as_ref(), Need::Model(service))?;
        }
        Ok(())
    }
}

/// What is asked about, and by whom.
#[derive(Debug)]
struct Asked {
    service: String,
    caller: Option<Caller>,
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let Asked { service, .. } = self.asked(request)?;
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
        let asked = self.asked(request)?;
        let changes = self.routing.changes();
        let watched = Watched { health: self.clone(), asked, changes, shown: None, is_over: false };
        let stream = futures::stream::unfold(watched, async |mut watched| {
            let next = watched.next().await?;
            watched.is_over = next.is_err();
            Some((next.map(|status| HealthCheckResponse { status: status.into() }), watched))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// A service whose status is watched. One that is unknown may appear later.
struct Watched {
    health: HealthService,
    asked: Asked,
    changes: watch::Receiver<u64>,
    shown: Option<ServingStatus>,
    is_over: bool,
}

impl Watched {
    /// The status, as soon as it is another one than was shown last; an error once the caller may no longer
    /// see it; `None` at the end of the process.
    async fn next(&mut self) -> Option<Result<ServingStatus, Status>> {
        while !self.is_over {
            self.changes.mark_unchanged();
            if let Err(refused) = self.health.admit(&self.asked) {
                return Some(Err(refused));
            }
            let status = self.health.status(&self.asked.service);
            if self.shown.replace(status) != Some(status) {
                return Some(Ok(status));
            }
            let changed = self.changes.changed();
            if let Ok(Err(_ended)) =
                tokio::time::timeout(Duration::from_millis(WATCH_INTERVAL_MS), changed).await
            {
                return None;
            }
        }
        None
    }
}
