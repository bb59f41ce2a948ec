//! gRPC: tokens of training jobs, for the launcher.

use secrecy::ExposeSecret as _;
use slipway_api::proto::registry::job_tokens_server::JobTokens;
use slipway_api::proto::registry::{
    IssueJobTokenRequest, JobToken, RevokeJobTokensRequest, RevokedJobTokens,
};
use slipway_domain::access::Role;
use tonic::{Request, Response, Status};

use crate::access::caller::Caller;
use crate::access::job_tokens as tokens;
use crate::state::Registry;

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    registry: Registry,
    role: Role,
}

impl Service {
    /// Issues tokens with this role.
    pub(crate) const fn new(registry: Registry, role: Role) -> Self {
        Self { registry, role }
    }
}

#[tonic::async_trait]
impl JobTokens for Service {
    async fn issue(&self, request: Request<IssueJobTokenRequest>) -> Result<Response<JobToken>, Status> {
        let caller = caller(&request)?;
        let IssueJobTokenRequest { job_id, expires_in_s } = request.into_inner();
        let issued = tokens::issue(&self.registry, self.role, &caller, &job_id, expires_in_s).await?;
        let body = |issued: tokens::JobToken| JobToken {
            token: issued.token.expose_secret().to_owned(),
            expires_at_unix_ms: issued.expires_ms,
        };
        Ok(Response::new(issued.map(body).unwrap_or_default()))
    }

    async fn revoke(
        &self,
        request: Request<RevokeJobTokensRequest>,
    ) -> Result<Response<RevokedJobTokens>, Status> {
        let caller = caller(&request)?;
        let revoked = tokens::revoke(&self.registry, &caller, &request.into_inner().job_id).await?;
        Ok(Response::new(RevokedJobTokens { revoked: u32::try_from(revoked).unwrap_or(u32::MAX) }))
    }
}

/// A request that passed no guard has no caller.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let found = request.extensions().get::<Caller>().cloned();
    found.ok_or_else(|| Status::unauthenticated("the caller is not authenticated"))
}
