//! REST v1: approvals of versions.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use slipway_api::rest::Empty;
use slipway_api::rest::registry as body;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::bodies::version_name;
use crate::access::caller::Caller;
use crate::state::Registry;
use crate::store::reports::Approval;
use crate::trust::approvals as use_cases;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(list, add)).routes(routes!(withdraw))
}

pub(super) fn approval_body(approval: &Approval) -> body::Approval {
    body::Approval {
        by: approval.approver.clone(),
        comment: approval.comment.clone(),
        at_unix_ms: approval.created_ms,
        authenticated: approval.authenticated,
    }
}

/// Approves a version. Approving it again changes nothing.
#[utoipa::path(post, path = "/api/v1/models/{name}/versions/{version}/approvals", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)), request_body = body::NewApproval,
    responses((status = 201, body = body::Approval),
        (status = 200, body = body::Approval, description = "It was already approved"),
        (status = 409, description = "The version has too many approvals")))]
async fn add(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    JsonBody(new): JsonBody<body::NewApproval>,
) -> Result<(StatusCode, Json<body::Approval>), Problem> {
    let name = version_name(&name, &version)?;
    let approved = use_cases::approve(&registry, &caller, name, new.by.as_deref(), new.comment).await?;
    let status = if approved.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(approval_body(&approved.approval))))
}

/// Withdraws an approval. With access control on, that of another approver requires an administrator.
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}/approvals/{by}", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path), ("by" = String, Path)),
    responses((status = 200, body = Empty)))]
async fn withdraw(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version, by)): Path<(String, String, String)>,
) -> Answer<Empty> {
    use_cases::withdraw(&registry, &caller, version_name(&name, &version)?, &by).await?;
    Ok(Json(Empty {}))
}

/// Lists the approvals of a version.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/approvals", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path), PageQuery),
    responses((status = 200, body = body::ApprovalPage)))]
async fn list(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<PageQuery>,
) -> Answer<body::ApprovalPage> {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let name = version_name(&name, &version)?;
    let found = use_cases::list(&registry, name, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |approval| approval.approver.clone());
    Ok(Json(body::ApprovalPage { approvals: found.iter().map(approval_body).collect(), next_page_token }))
}
