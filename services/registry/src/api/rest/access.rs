//! REST v1: API tokens, grants, and who the caller is.

use axum::Json;
use axum::extract::State;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use slipway_domain::access::{Role, Scope};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use crate::access::caller::Caller;
use crate::access::{grants, tokens};
use crate::state::Registry;
use crate::store::access::{Grant, Token};

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(list_tokens, create_token))
        .routes(routes!(revoke_token))
        .routes(routes!(list_grants, put_grant, delete_grant))
}

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
struct Me {
    /// `anonymous` where access is off.
    principal: String,
    /// What it came with, e.g. the id of a token.
    credential: String,
    /// Address that it came from.
    origin: String,
    groups: Vec<String>,
    grants: Vec<Held>,
}

/// A role that the caller holds.
#[derive(Debug, Serialize, ToSchema)]
struct Held {
    /// `*`, `experiment:<id>` or `model:<name>`.
    scope: String,
    #[schema(value_type = String, example = "editor")]
    role: Role,
}

/// Shows who the caller is, and what it may do.
#[utoipa::path(get, path = "/api/v1/me", tag = "access", responses((status = 200, body = Me)))]
async fn me(caller: Caller) -> Result<Json<Me>, Problem> {
    let held = |(scope, role): (Scope, Role)| Held { scope: scope.to_string(), role };
    Ok(Json(Me {
        principal: caller.actor.principal.clone(),
        credential: caller.actor.credential.clone(),
        origin: caller.actor.origin.clone(),
        groups: caller.groups.to_vec(),
        grants: caller.grants.list().into_iter().map(held).collect(),
    }))
}

/// An API token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct TokenBody {
    id: String,
    name: String,
    principal: String,
    created_at_unix_ms: i64,
    created_by: String,
    /// Absent where it ends only when it is revoked.
    expires_at_unix_ms: Option<i64>,
    last_used_at_unix_ms: Option<i64>,
    /// The token itself; only in the answer to the request that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl TokenBody {
    fn new(token: Token) -> Self {
        Self {
            id: token.token_id,
            name: token.name,
            principal: token.principal,
            created_at_unix_ms: token.created_ms,
            created_by: token.created_by,
            expires_at_unix_ms: token.expires_ms,
            last_used_at_unix_ms: token.last_used_ms,
            token: None,
        }
    }
}

/// A page of tokens, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
struct TokenPage {
    tokens: Vec<TokenBody>,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// Lists API tokens.
#[utoipa::path(get, path = "/api/v1/tokens", operation_id = "tokens", tag = "access", params(PageQuery), responses((status = 200, body = TokenPage)))]
async fn list_tokens(
    State(registry): State<Registry>,
    Query(query): Query<PageQuery>,
) -> Result<Json<TokenPage>, Problem> {
    let (limit, after) = (query.limit()?, query.after::<(i64, String)>()?);
    let found = tokens::list(&registry, after, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |token| (token.created_ms, token.token_id.clone()));
    Ok(Json(TokenPage { tokens: found.into_iter().map(TokenBody::new).collect(), next_page_token }))
}

/// A token that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    /// What it is for.
    name: String,
    /// Whose it is; the grants of that principal hold for it.
    principal: String,
    /// Seconds until it ends; without it, it ends when it is revoked.
    expires_in_s: Option<i64>,
}

/// Makes a token. This answer alone holds its secret.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = NewToken,
    responses((status = 200, body = TokenBody)))]
async fn create_token(
    State(registry): State<Registry>,
    caller: Caller,
    JsonBody(request): JsonBody<NewToken>,
) -> Result<Json<TokenBody>, Problem> {
    let NewToken { name, principal, expires_in_s } = request;
    let new = tokens::NewToken { name, principal, expires_in_s };
    let (token, secret) = tokens::create(&registry, &caller, new).await?;
    Ok(Json(TokenBody { token: Some(secret.expose_secret().to_owned()), ..TokenBody::new(token) }))
}

/// Revokes a token at once.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "access", params(("id" = String, Path)),
    responses((status = 200, body = Object)))]
async fn revoke_token(State(registry): State<Registry>, Path(id): Path<String>) -> Answer {
    tokens::revoke(&registry, &id).await?;
    Ok(Json(json!({})))
}

/// A role that somebody has on something.
#[derive(Debug, Serialize, ToSchema)]
struct GrantBody {
    subject: String,
    scope: String,
    role: String,
    granted_at_unix_ms: i64,
    granted_by: String,
}

impl From<Grant> for GrantBody {
    fn from(grant: Grant) -> Self {
        Self {
            subject: grant.subject,
            scope: grant.scope,
            role: grant.role,
            granted_at_unix_ms: grant.granted_ms,
            granted_by: grant.granted_by,
        }
    }
}

/// A page of grants, by subject and scope.
#[derive(Debug, Serialize, ToSchema)]
struct GrantPage {
    grants: Vec<GrantBody>,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct GrantsQuery {
    /// Only those of this principal or group.
    subject: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    /// Items of a page, 1 to 1000; 50 where absent.
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// Lists grants.
#[utoipa::path(get, path = "/api/v1/grants", operation_id = "grants", tag = "access", params(GrantsQuery), responses((status = 200, body = GrantPage)))]
async fn list_grants(
    State(registry): State<Registry>,
    Query(query): Query<GrantsQuery>,
) -> Result<Json<GrantPage>, Problem> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<(String, String)>()?);
    let found = grants::list(&registry, query.subject.as_deref(), after, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |grant| (grant.subject.clone(), grant.scope.clone()));
    Ok(Json(GrantPage { grants: found.into_iter().map(GrantBody::from).collect(), next_page_token }))
}

/// A role that is to be given to somebody, in place of the one on the same thing before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGrant {
    /// A principal, or `group:<name>`.
    subject: String,
    /// `*`, `experiment:<id>` or `model:<name>`.
    scope: String,
    /// `viewer`, `editor`, `deployer` or `admin`.
    role: String,
}

/// Gives a role to a principal or a group.
#[utoipa::path(put, path = "/api/v1/grants", tag = "access", request_body = NewGrant,
    responses((status = 200, body = GrantBody)))]
async fn put_grant(
    State(registry): State<Registry>,
    caller: Caller,
    JsonBody(request): JsonBody<NewGrant>,
) -> Result<Json<GrantBody>, Problem> {
    let NewGrant { subject, scope, role } = request;
    Ok(Json(grants::put(&registry, &caller, subject, &scope, &role).await?.into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WhichGrant {
    /// A principal, or `group:<name>`.
    subject: String,
    /// `*`, `experiment:<id>` or `model:<name>`.
    scope: String,
}

/// Takes a role away.
#[utoipa::path(delete, path = "/api/v1/grants", tag = "access", params(WhichGrant), responses((status = 200, body = Object)))]
async fn delete_grant(State(registry): State<Registry>, Query(which): Query<WhichGrant>) -> Answer {
    grants::delete(&registry, &which.subject, &which.scope).await?;
    Ok(Json(json!({})))
}
