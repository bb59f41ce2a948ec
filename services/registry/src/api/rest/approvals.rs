//! REST v1: who approved a version.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use slipway_domain::access::{Role, Scope};
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{JsonBody, Path, Query};
use slipway_service_kit::page::{PageQuery, cut};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, version_of};
use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::registered_models::model_touch;
use crate::store::reports::{self as table, Approval};

/// People who approve one version.
const MAX_APPROVALS: usize = 100;
/// Characters of a person's name.
const MAX_NAME_CHARS: usize = 250;
/// Characters of a comment.
const MAX_COMMENT_CHARS: usize = 5_000;

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(withdraw))
}

/// An approval that is to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewApproval {
    /// Who approves. With access on it is the caller, and may be absent.
    #[serde(default)]
    #[schema(example = "ada")]
    by: Option<String>,
    #[serde(default)]
    comment: Option<String>,
}

/// That somebody approved a version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApprovalBody {
    by: String,
    comment: Option<String>,
    at_unix_ms: i64,
    /// The approver proved who it is; with access control off, the client chose the name.
    authenticated: bool,
}

impl From<&Approval> for ApprovalBody {
    fn from(approval: &Approval) -> Self {
        Self {
            by: approval.approver.clone(),
            comment: approval.comment.clone(),
            at_unix_ms: approval.created_ms,
            authenticated: approval.authenticated,
        }
    }
}

/// A page of approvals, by name.
#[derive(Debug, Serialize, ToSchema)]
struct ApprovalPage {
    approvals: Vec<ApprovalBody>,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// Who approves: with access on nobody but the caller. With access off nothing proves that they are who they say.
fn approver(caller: &Caller, named: Option<&str>) -> Result<String, Problem> {
    let named = named.map(str::trim);
    let known = (!caller.is_anonymous()).then(|| caller.actor.principal.clone());
    let by = match (known, named) {
        (Some(known), Some(named)) if known != named => {
            return Err(Problem::invalid("by", format!("expected '{known}', who is asking, or nothing")));
        }
        (Some(known), _) => known,
        (None, named) => named.unwrap_or_default().to_owned(),
    };
    if by.is_empty() || by.chars().count() > MAX_NAME_CHARS || by.contains('\0') {
        let expected = format!("expected who approves, 1 to {MAX_NAME_CHARS} characters");
        return Err(Problem::invalid("by", expected));
    }
    Ok(by)
}

/// Approves a version; once more changes nothing.
#[utoipa::path(post, path = "/api/v1/models/{name}/versions/{version}/approvals", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)), request_body = NewApproval,
    responses((status = 201, body = ApprovalBody), (status = 200, body = ApprovalBody, description = "It was approved before")))]
async fn add(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    JsonBody(new): JsonBody<NewApproval>,
) -> Result<(StatusCode, Json<ApprovalBody>), Problem> {
    let by = approver(&caller, new.by.as_deref())?;
    if new.comment.as_ref().is_some_and(|text| text.chars().count() > MAX_COMMENT_CHARS) {
        return Err(Problem::invalid("comment", format!("expected up to {MAX_COMMENT_CHARS} characters")));
    }
    let mut change = registry.change().await?;
    model_touch(change.db(), &name, now_ms()).await?;
    let found = version_of(change.db(), &name, &version).await?;
    let key = (found.model_key, found.version);
    let there = table::approvals(change.db(), key, None, MAX_APPROVALS as i64).await?;
    let authenticated = !caller.is_anonymous();
    let proven = |one: &&Approval| one.approver == by && (one.authenticated || !authenticated);
    if let Some(before) = there.iter().find(proven) {
        // Approved is approved: asking again changes nothing.
        return Ok((StatusCode::OK, Json(before.into())));
    }
    if there.len() >= MAX_APPROVALS {
        return Err(Problem::conflict(format!("{MAX_APPROVALS} people approved it already")));
    }
    let approval = Approval { approver: by, comment: new.comment, created_ms: now_ms(), authenticated };
    table::approval_add(change.db(), key, &approval).await?;
    let details = json!({"model": name, "version": version, "digest": found.digest, "by": approval.approver});
    change.tell("approval", "added", format!("{name}/{version}"), details).await?;
    change.commit().await?;
    Ok((StatusCode::CREATED, Json((&approval).into())))
}

/// Withdraws an approval. With access on, that of somebody else takes an administrator.
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}/approvals/{by}", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path), ("by" = String, Path)), responses((status = 200, body = Object)))]
async fn withdraw(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version, by)): Path<(String, String, String)>,
) -> Answer {
    if !caller.is_anonymous() && caller.actor.principal != by {
        caller.require(Role::Admin, &Scope::Model(name.clone()))?;
    }
    let mut change = registry.change().await?;
    model_touch(change.db(), &name, now_ms()).await?;
    let found = version_of(change.db(), &name, &version).await?;
    if !table::approval_delete(change.db(), (found.model_key, found.version), &by).await? {
        return Err(Error::not_found(format!("'{by}' did not approve version {version} of '{name}'")).into());
    }
    let details = json!({"model": name, "version": version, "by": by});
    change.tell("approval", "withdrawn", format!("{name}/{version}"), details).await?;
    change.commit().await?;
    Ok(Json(json!({})))
}

/// Lists who approved a version.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/approvals", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path), PageQuery), responses((status = 200, body = ApprovalPage)))]
async fn list(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<PageQuery>,
) -> Result<Json<ApprovalPage>, Problem> {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let mut db = registry.pool.acquire().await?;
    let found = version_of(&mut db, &name, &version).await?;
    let key = (found.model_key, found.version);
    let found = table::approvals(&mut db, key, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |approval| approval.approver.clone());
    Ok(Json(ApprovalPage { approvals: found.iter().map(ApprovalBody::from).collect(), next_page_token }))
}
