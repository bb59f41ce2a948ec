//! gRPC: models from outside of the registry, for the rollout controller.

use secrecy::ExposeSecret as _;
use slipway_api::proto::registry::imports_server::Imports as Api;
use slipway_api::proto::registry::{
    Delivery, EndImportRequest, EndImportResponse, EnsureImportRequest, Import, IssueDeliveryRequest,
};
use tonic::{Request, Response, Status};

use super::registry::caller;
use crate::imports;
use crate::state::Registry;

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    registry: Registry,
}

impl Service {
    pub(crate) const fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

#[tonic::async_trait]
impl Api for Service {
    async fn ensure(&self, request: Request<EnsureImportRequest>) -> Result<Response<Import>, Status> {
        let caller = caller(&request)?;
        let EnsureImportRequest { model, uri, alias, watch, delivered } = request.into_inner();
        let asked = imports::Request { model, uri, alias, watch, delivered };
        let import = imports::ensure(&self.registry, &caller, &asked).await?;
        Ok(Response::new(Import {
            version: import.version.map(|version| version.to_string()).unwrap_or_default(),
            problem: import.problem.unwrap_or_default(),
            done_bytes: import.done_bytes.unsigned_abs(),
            total_bytes: import.total_bytes.unsigned_abs(),
            id: import.id.to_string(),
        }))
    }

    async fn issue_delivery(
        &self,
        request: Request<IssueDeliveryRequest>,
    ) -> Result<Response<Delivery>, Status> {
        let caller = caller(&request)?;
        let id = request.into_inner().import_id;
        let issued = imports::delivery::issue(&self.registry, &caller, &id).await?;
        let token = issued.token.expose_secret().to_owned();
        Ok(Response::new(Delivery { token, expires_at_unix_ms: issued.expires_ms }))
    }

    async fn end(&self, request: Request<EndImportRequest>) -> Result<Response<EndImportResponse>, Status> {
        let caller = caller(&request)?;
        let EndImportRequest { model, alias } = request.into_inner();
        imports::end(&self.registry, &caller, &model, &alias).await?;
        Ok(Response::new(EndImportResponse {}))
    }
}
