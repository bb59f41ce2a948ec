//! Use cases of grants: give a role, take it away, list them.

use serde_json::json;
use slipway_access::principal::validate_subject;
use slipway_domain::access::{Role, Scope};
use slipway_domain::registry::validate_model_name;

use super::caller::{Caller, refuse_job};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::access::{self as table, Grant};

/// A page of grants, by subject and scope, of one subject if given.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    subject: Option<&str>,
    after: Option<(String, String)>,
    limit: i64,
) -> Result<Vec<Grant>, Error> {
    table::grant_list(&mut *registry.pool.acquire().await?, subject, after, limit).await
}

/// Gives a role to a principal or a group, which replaces the one that it had on the same scope.
///
/// # Errors
/// A value is invalid, the experiment does not exist, or Postgres is unreachable.
pub(crate) async fn put(
    registry: &Registry,
    caller: &Caller,
    subject: String,
    scope: &str,
    role: &str,
) -> Result<Grant, Error> {
    refuse_job("subject", &subject)?;
    validate_subject(&subject).map_err(|why| Error::invalid("subject", why.to_string()))?;
    let scope: Scope = scope.parse().map_err(|_| {
        Error::invalid("scope", format!("expected *, experiment:<number> or model:<name>, got '{scope}'"))
    })?;
    if let Scope::Model(name) = &scope {
        validate_model_name("scope", name)?;
    }
    let role: Role = role.parse().map_err(|_| {
        Error::invalid("role", format!("expected viewer, editor, deployer or admin, got '{role}'"))
    })?;
    let grant = Grant {
        subject,
        scope: scope.to_string(),
        role: role.name().to_owned(),
        granted_ms: now_ms(),
        granted_by: caller.actor.principal.clone(),
    };
    let mut change = registry.change().await?;
    if let Scope::Experiment(id) = scope {
        table::experiment_hold(change.db(), id).await?.ok_or_else(|| {
            let why =
                format!("there is no experiment {id}; a role on an experiment is granted once it exists");
            Error::invalid("scope", why)
        })?;
    }
    let before = table::grant_put(change.db(), &grant).await?;
    let details =
        json!({"subject": grant.subject, "scope": grant.scope, "role": grant.role, "role_before": before});
    change.tell("grant", "set", format!("{} {}", grant.subject, grant.scope), details).await?;
    change.commit().await?;
    registry.access.forget();
    Ok(grant)
}

/// Takes a role away. The scope is compared as it is stored, so that every grant can be removed.
///
/// # Errors
/// There is no such grant, or Postgres is unreachable.
pub(crate) async fn delete(registry: &Registry, subject: &str, scope: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let Some(role) = table::grant_delete(change.db(), subject, scope).await? else {
        return Err(Error::not_found(format!("there is no grant of `{subject}` on `{scope}`")));
    };
    let details = json!({"subject": subject, "scope": scope, "role": role});
    change.tell("grant", "removed", format!("{subject} {scope}"), details).await?;
    change.commit().await?;
    registry.access.forget();
    Ok(())
}
