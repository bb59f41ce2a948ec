//! Use cases of approvals: approve a version, withdraw an approval, list them.

use serde_json::json;
use slipway_domain::access::{Role, Scope};

use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::model_versions::{VersionName, version_get};
use crate::store::registered_models::model_touch;
use crate::store::reports::{self as table, Approval};

/// People who approve one version.
const MAX_APPROVALS: usize = 100;
/// Characters of a person's name.
const MAX_NAME_CHARS: usize = 250;
/// Characters of a comment.
const MAX_COMMENT_CHARS: usize = 5_000;

/// The outcome of an approval.
#[derive(Debug)]
pub(crate) struct Approved {
    pub(crate) approval: Approval,
    /// `false` if the same person approved the version before.
    pub(crate) is_new: bool,
}

/// Who approves: with access on, only the caller. With access off, nothing proves the name.
fn approver(caller: &Caller, named: Option<&str>) -> Result<String, Error> {
    let named = named.map(str::trim);
    let known = (!caller.is_anonymous()).then(|| caller.actor.principal.clone());
    let by = match (known, named) {
        (Some(known), Some(named)) if known != named => {
            return Err(Error::invalid("by", format!("expected '{known}', who is asking, or nothing")));
        }
        (Some(known), _) => known,
        (None, named) => named.unwrap_or_default().to_owned(),
    };
    if by.is_empty() || by.chars().count() > MAX_NAME_CHARS || by.contains('\0') {
        let expected = format!("expected who approves, 1 to {MAX_NAME_CHARS} characters");
        return Err(Error::invalid("by", expected));
    }
    Ok(by)
}

/// Approves a version; a second approval by the same person changes nothing.
///
/// # Errors
/// A value is invalid, the version does not exist or has too many approvals, or Postgres is unreachable.
pub(crate) async fn approve(
    registry: &Registry,
    caller: &Caller,
    name: VersionName<'_>,
    by: Option<&str>,
    comment: Option<String>,
) -> Result<Approved, Error> {
    let by = approver(caller, by)?;
    if comment.as_ref().is_some_and(|text| text.chars().count() > MAX_COMMENT_CHARS) {
        return Err(Error::invalid("comment", format!("expected up to {MAX_COMMENT_CHARS} characters")));
    }
    let VersionName { model, version } = name;
    let mut change = registry.change().await?;
    model_touch(change.db(), model, now_ms()).await?;
    let found = version_get(change.db(), model, version).await?;
    let key = (found.model_key, found.version);
    let there = table::approvals(change.db(), key, None, MAX_APPROVALS as i64).await?;
    let (count, authenticated) = (there.len(), !caller.is_anonymous());
    let proven = |one: &Approval| one.approver == by && (one.authenticated || !authenticated);
    if let Some(before) = there.into_iter().find(proven) {
        return Ok(Approved { approval: before, is_new: false });
    }
    if count >= MAX_APPROVALS {
        return Err(Error::Conflict(format!("it already has {MAX_APPROVALS} approvals")));
    }
    let approval = Approval { approver: by, comment, created_ms: now_ms(), authenticated };
    table::approval_add(change.db(), key, &approval).await?;
    let details = json!({
        "model": model, "version": version.to_string(), "digest": found.digest, "by": approval.approver,
    });
    change.tell("approval", "added", format!("{model}/{version}"), details).await?;
    change.commit().await?;
    Ok(Approved { approval, is_new: true })
}

/// Withdraws an approval. With access on, that of another person requires the role admin on the model.
///
/// # Errors
/// The caller may not, the version or the approval does not exist, or Postgres is unreachable.
pub(crate) async fn withdraw(
    registry: &Registry,
    caller: &Caller,
    name: VersionName<'_>,
    by: &str,
) -> Result<(), Error> {
    let VersionName { model, version } = name;
    if !caller.is_anonymous() && caller.actor.principal != by {
        caller.require(Role::Admin, &Scope::Model(model.to_owned()))?;
    }
    let mut change = registry.change().await?;
    model_touch(change.db(), model, now_ms()).await?;
    let found = version_get(change.db(), model, version).await?;
    if !table::approval_delete(change.db(), (found.model_key, found.version), by).await? {
        return Err(Error::not_found(format!("'{by}' did not approve version {version} of '{model}'")));
    }
    let details = json!({"model": model, "version": version.to_string(), "by": by});
    change.tell("approval", "withdrawn", format!("{model}/{version}"), details).await?;
    change.commit().await
}

/// A page of the approvals of a version, by name, behind the given one.
///
/// # Errors
/// The version does not exist, or Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    name: VersionName<'_>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Approval>, Error> {
    let mut db = registry.pool.acquire().await?;
    let found = version_get(&mut db, name.model, name.version).await?;
    table::approvals(&mut db, (found.model_key, found.version), after, limit).await
}
