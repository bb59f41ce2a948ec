//! Tokens of training jobs: each attempt gets one of its own, for the principal `job:<id>`, with one role on everything. It expires, and
//! it ends with the attempt.
//!
//! The launcher that asks for them holds a token that can do nothing else, so neither it nor a job ever has an administrator's rights.

use secrecy::ExposeSecret as _;
use serde_json::json;
use slipway_access::ApiToken;
use slipway_api::proto::registry::job_tokens_server::JobTokens;
use slipway_api::proto::registry::{
    IssueJobTokenRequest, JobToken, RevokeJobTokensRequest, RevokedJobTokens,
};
use slipway_domain::access::{Role, Scope};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::access::{Caller, is_launcher, proven};
use crate::error::Error;
use crate::state::{Registry, now_ms};
use crate::store::access::{self as table, Grant, Token};

/// How the principals of jobs begin. No other token and no identity may have such a name.
pub(crate) const PRINCIPAL_PREFIX: &str = "job:";
const MAX_LIFE_S: u64 = 90 * 24 * 3_600;

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
        Ok(Response::new(issue(&self.registry, self.role, &caller, &request.into_inner()).await?))
    }

    async fn revoke(
        &self,
        request: Request<RevokeJobTokensRequest>,
    ) -> Result<Response<RevokedJobTokens>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(revoke(&self.registry, &caller, &request.into_inner()).await?))
    }
}

/// A request that passed no guard has no caller.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let found = request.extensions().get::<Caller>().cloned();
    found.ok_or_else(|| Status::unauthenticated("the caller is not known"))
}

/// A token for a job, in place of those that it had before.
async fn issue(
    registry: &Registry,
    role: Role,
    caller: &Caller,
    request: &IssueJobTokenRequest,
) -> Result<JobToken, Error> {
    if proven(&caller.actor).is_none() {
        // Access is off: jobs need no token, and a token that is issued now would be valid once access is on.
        return Ok(JobToken::default());
    }
    let principal = principal(caller, &request.job_id)?;
    if !(1..=MAX_LIFE_S).contains(&request.expires_in_s) {
        return Err(Error::invalid(format!("`expires_in_s`: expected 1 to {MAX_LIFE_S} seconds")));
    }
    let secret = ApiToken::generate().map_err(Error::internal)?;
    let now = now_ms();
    let expires_ms =
        now.saturating_add(i64::try_from(request.expires_in_s * 1_000).map_err(Error::internal)?);
    let created_by = caller.actor.principal.clone();
    let token = Token {
        token_id: secret.id().to_owned(),
        name: "training job".to_owned(),
        principal: principal.clone(),
        created_ms: now,
        created_by: created_by.clone(),
        expires_ms: Some(expires_ms),
        last_used_ms: None,
    };
    let grant = Grant {
        subject: principal.clone(),
        scope: Scope::Everything.to_string(),
        role: role.name().to_owned(),
        granted_ms: now,
        granted_by: created_by,
    };
    let mut change = registry.change().await?;
    let replaced = table::tokens_of_principal_delete(change.db(), &principal).await?;
    table::token_create(change.db(), &token, &secret.digest()).await?;
    table::grant_put(change.db(), &grant).await?;
    let details = json!({"name": token.name, "principal": principal, "expires_at_unix_ms": expires_ms,
        "role": grant.role, "scope": grant.scope});
    change.tell("token", "created", token.token_id, details).await?;
    change.commit().await?;
    if !replaced.is_empty() {
        registry.access.forget();
    }
    let token = secret.reveal().expose_secret().to_owned();
    Ok(JobToken { token, expires_at_unix_ms: expires_ms })
}

/// Revokes all tokens of a job, and takes its role away.
async fn revoke(
    registry: &Registry,
    caller: &Caller,
    request: &RevokeJobTokensRequest,
) -> Result<RevokedJobTokens, Error> {
    if proven(&caller.actor).is_none() {
        return Ok(RevokedJobTokens::default());
    }
    let principal = principal(caller, &request.job_id)?;
    let mut change = registry.change().await?;
    let revoked = table::tokens_of_principal_delete(change.db(), &principal).await?;
    table::grant_delete(change.db(), &principal, &Scope::Everything.to_string()).await?;
    for token_id in &revoked {
        change.tell("token", "revoked", token_id.as_str(), json!({"principal": principal})).await?;
    }
    change.commit().await?;
    registry.access.forget();
    Ok(RevokedJobTokens { revoked: u32::try_from(revoked.len()).unwrap_or(u32::MAX) })
}

/// The principal of a job, for a caller that may speak of it.
fn principal(caller: &Caller, job_id: &str) -> Result<String, Error> {
    if !is_launcher(caller) {
        return Err(Error::denied(format!(
            "'{}': tokens of training jobs are issued to the launcher alone, by its token (SLIPWAY_LAUNCHER_TOKEN)",
            caller.actor.principal
        )));
    }
    let id = Uuid::parse_str(job_id)
        .map_err(|_| Error::invalid(format!("`job_id`: expected the id of a job, got '{job_id}'")))?;
    Ok(format!("{PRINCIPAL_PREFIX}{id}"))
}
