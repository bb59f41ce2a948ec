//! Tokens of training jobs: each attempt gets one of its own, for the principal `job:<id>`, with one role on
//! everything. It expires, and it ends with the attempt.
//!
//! The launcher that asks for them holds a token that can do nothing else, so neither it nor a job ever has
//! an administrator's rights.

use secrecy::SecretString;
use serde_json::json;
use slipway_access::ApiToken;
use slipway_domain::access::{Role, Scope};
use uuid::Uuid;

use super::caller::{Caller, JOB_PREFIX, proven};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::access::{self as table, Grant, Token};

const MAX_LIFE_S: u64 = 90 * 24 * 3_600;

/// A token for a training job.
#[derive(Debug)]
pub(crate) struct JobToken {
    pub(crate) token: SecretString,
    pub(crate) expires_ms: i64,
}

/// Issues a token for a job, which replaces those that it had before; `None` while access control is off,
/// when jobs need no token, and a token that is issued now would be valid once it is on.
///
/// # Errors
/// The caller is not the launcher, a value is invalid, or Postgres is unreachable.
pub(crate) async fn issue(
    registry: &Registry,
    role: Role,
    caller: &Caller,
    job_id: &str,
    expires_in_s: u64,
) -> Result<Option<JobToken>, Error> {
    if proven(&caller.actor).is_none() {
        return Ok(None);
    }
    let principal = principal(caller, job_id)?;
    if !(1..=MAX_LIFE_S).contains(&expires_in_s) {
        return Err(Error::invalid(
            "expires_in_s",
            format!("`expires_in_s`: expected 1 to {MAX_LIFE_S} seconds"),
        ));
    }
    let secret = ApiToken::generate().map_err(Error::internal)?;
    let now = now_ms();
    let expires_ms = now.saturating_add(i64::try_from(expires_in_s * 1_000).map_err(Error::internal)?);
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
    registry.access.announcer.announce();
    if !replaced.is_empty() {
        registry.access.forget();
    }
    Ok(Some(JobToken { token: secret.reveal(), expires_ms }))
}

/// Revokes all tokens of a job, and its role; how many tokens there were.
///
/// # Errors
/// The caller is not the launcher, the id is invalid, or Postgres is unreachable.
pub(crate) async fn revoke(registry: &Registry, caller: &Caller, job_id: &str) -> Result<usize, Error> {
    if proven(&caller.actor).is_none() {
        return Ok(0);
    }
    let principal = principal(caller, job_id)?;
    let mut change = registry.change().await?;
    let revoked = table::tokens_of_principal_delete(change.db(), &principal).await?;
    table::grant_delete(change.db(), &principal, &Scope::Everything.to_string()).await?;
    for token_id in &revoked {
        change.tell("token", "revoked", token_id.as_str(), json!({"principal": principal})).await?;
    }
    change.commit().await?;
    registry.access.forget();
    Ok(revoked.len())
}

/// The principal of a job, for a caller that may speak of it.
fn principal(caller: &Caller, job_id: &str) -> Result<String, Error> {
    if !caller.is_launcher() {
        return Err(Error::Denied(format!(
            "'{}': only the launcher, with its token (SLIPWAY_LAUNCHER_TOKEN), may request tokens of \
             training jobs",
            caller.actor.principal
        )));
    }
    let id = Uuid::parse_str(job_id).map_err(|_| {
        Error::invalid("job_id", format!("`job_id`: expected the id of a job, got '{job_id}'"))
    })?;
    Ok(format!("{JOB_PREFIX}{id}"))
}
