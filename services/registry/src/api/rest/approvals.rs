//! REST v1: who approved a version.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, version_name};
use crate::access::caller::Caller;
use crate::state::Registry;
use crate::store::reports::Approval;
use crate::trust::approvals as use_cases;

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

/// Approves a version; once more changes nothing.
#[utoipa::path(post, path = "/api/v1/models/{name}/versions/{version}/approvals", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)), request_body = NewApproval,
    responses((status = 201, body = ApprovalBody), (status = 200, body = ApprovalBody, description = "It was already approved")))]
async fn add(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    JsonBody(new): JsonBody<NewApproval>,
) -> Result<(StatusCode, Json<ApprovalBody>), Problem> {
    let name = version_name(&name, &version)?;
    let approved = use_cases::approve(&registry, &caller, name, new.by.as_deref(), new.comment).await?;
    let status = if approved.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json((&approved.approval).into())))
}

/// Withdraws an approval. With access on, that of somebody else takes an administrator.
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}/approvals/{by}", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path), ("by" = String, Path)), responses((status = 200, body = Object)))]
async fn withdraw(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version, by)): Path<(String, String, String)>,
) -> Answer {
    use_cases::withdraw(&registry, &caller, version_name(&name, &version)?, &by).await?;
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
    let name = version_name(&name, &version)?;
    let found = use_cases::list(&registry, name, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |approval| approval.approver.clone());
    Ok(Json(ApprovalPage { approvals: found.iter().map(ApprovalBody::from).collect(), next_page_token }))
}
