//! REST v1: API tokens, grants, and the caller.

use axum::Json;
use axum::extract::State;
use secrecy::ExposeSecret as _;
use slipway_api::rest::Empty;
use slipway_api::rest::registry as body;
use slipway_domain::access::{Role, Scope};
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use crate::access::caller::Caller;
use crate::access::{grants, tokens};
use crate::state::Registry;
use crate::store::access::{Grant, Token};

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new()
        .routes(routes!(me))
        .routes(routes!(list_tokens, create_token))
        .routes(routes!(revoke_token))
        .routes(routes!(list_grants, put_grant, delete_grant))
}

/// Shows the caller and its roles.
#[utoipa::path(get, path = "/api/v1/me", tag = "access", responses((status = 200, body = body::Me)))]
async fn me(caller: Caller) -> Answer<body::Me> {
    let held = |(scope, role): (Scope, Role)| body::HeldRole { scope: scope.to_string(), role };
    Ok(Json(body::Me {
        principal: caller.actor.principal.clone(),
        credential: caller.actor.credential.clone(),
        origin: caller.actor.origin.clone(),
        groups: caller.groups.to_vec(),
        grants: caller.grants.list().into_iter().map(held).collect(),
    }))
}

fn token_body(token: Token) -> body::ApiToken {
    body::ApiToken {
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

/// Lists API tokens, oldest first.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", params(PageQuery),
    responses((status = 200, body = body::ApiTokenPage)))]
async fn list_tokens(
    State(registry): State<Registry>,
    Query(query): Query<PageQuery>,
) -> Answer<body::ApiTokenPage> {
    let (limit, after) = (query.limit()?, query.after::<(i64, String)>()?);
    let found = tokens::list(&registry, after, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |token| (token.created_ms, token.token_id.clone()));
    Ok(Json(body::ApiTokenPage { tokens: found.into_iter().map(token_body).collect(), next_page_token }))
}

/// Creates an API token. Only this response contains its secret.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = body::NewApiToken,
    responses((status = 200, body = body::ApiToken)))]
async fn create_token(
    State(registry): State<Registry>,
    caller: Caller,
    JsonBody(request): JsonBody<body::NewApiToken>,
) -> Answer<body::ApiToken> {
    let body::NewApiToken { name, principal, expires_in_s } = request;
    let new = tokens::NewToken { name, principal, expires_in_s };
    let (token, secret) = tokens::create(&registry, &caller, new).await?;
    Ok(Json(body::ApiToken { token: Some(secret.expose_secret().to_owned()), ..token_body(token) }))
}

/// Revokes an API token immediately.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "access", params(("id" = String, Path)),
    responses((status = 200, body = Empty)))]
async fn revoke_token(State(registry): State<Registry>, Path(id): Path<String>) -> Answer<Empty> {
    tokens::revoke(&registry, &id).await?;
    Ok(Json(Empty {}))
}

fn grant_body(grant: Grant) -> body::Grant {
    body::Grant {
        subject: grant.subject,
        scope: grant.scope,
        role: grant.role,
        granted_at_unix_ms: grant.granted_ms,
        granted_by: grant.granted_by,
    }
}

/// Lists grants.
#[utoipa::path(get, path = "/api/v1/grants", tag = "access", params(body::GrantsQuery),
    responses((status = 200, body = body::GrantPage)))]
async fn list_grants(
    State(registry): State<Registry>,
    Query(query): Query<body::GrantsQuery>,
) -> Answer<body::GrantPage> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<(String, String)>()?);
    let found = grants::list(&registry, query.subject.as_deref(), after, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |grant| (grant.subject.clone(), grant.scope.clone()));
    Ok(Json(body::GrantPage { grants: found.into_iter().map(grant_body).collect(), next_page_token }))
}

/// Grants a role to a principal or a group; it replaces the previous role in the scope.
#[utoipa::path(put, path = "/api/v1/grants", tag = "access", request_body = body::NewGrant,
    responses((status = 200, body = body::Grant)))]
async fn put_grant(
    State(registry): State<Registry>,
    caller: Caller,
    JsonBody(request): JsonBody<body::NewGrant>,
) -> Answer<body::Grant> {
    let body::NewGrant { subject, scope, role } = request;
    Ok(Json(grant_body(grants::put(&registry, &caller, subject, &scope, &role).await?)))
}

/// Removes a grant.
#[utoipa::path(delete, path = "/api/v1/grants", tag = "access", params(body::WhichGrant),
    responses((status = 200, body = Empty), (status = 404, description = "There is no such grant")))]
async fn delete_grant(
    State(registry): State<Registry>,
    Query(which): Query<body::WhichGrant>,
) -> Answer<Empty> {
    grants::delete(&registry, &which.subject, &which.scope).await?;
    Ok(Json(Empty {}))
}
