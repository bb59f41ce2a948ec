//! REST v1: API tokens, grants, and who the caller is.

use axum::extract::{Path, State};
use axum::routing::{delete as on_delete, get};
use axum::{Json, Router};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_access::ApiToken;
use slipway_domain::access::{Role, Scope};
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{JsonBody, Query};
use slipway_service_kit::page::{PageQuery, cut};

use super::{Answer, page};
use crate::access::Caller;
use crate::error::Error;
use crate::state::{Registry, now_ms};
use crate::store::access::{self as table, Grant, Token};

const MAX_NAME_CHARS: usize = 256;
/// Ten years.
const MAX_LIFE_S: i64 = 10 * 365 * 24 * 3_600;
const GROUP: &str = "group:";
/// Principals that the audit trail uses for others than people.
const RESERVED: [&str; 2] = ["anonymous", "system"];

pub(super) fn router() -> Router<Registry> {
    Router::new()
        .route("/api/v1/me", get(me))
        .route("/api/v1/tokens", get(tokens).post(create_token))
        .route("/api/v1/tokens/{id}", on_delete(revoke_token))
        .route("/api/v1/grants", get(grants).put(put_grant).delete(delete_grant))
}

/// Who the caller is, and what it may do.
async fn me(caller: Caller) -> Answer {
    let grants: Vec<Value> = caller
        .grants
        .list()
        .into_iter()
        .map(|(scope, role)| json!({"scope": scope.to_string(), "role": role}))
        .collect();
    Ok(Json(json!({
        "principal": caller.actor.principal,
        "credential": caller.actor.credential,
        "origin": caller.actor.origin,
        "groups": &caller.groups[..],
        "grants": grants,
    })))
}

fn token_body(token: &Token) -> Value {
    json!({
        "id": token.token_id,
        "name": token.name,
        "principal": token.principal,
        "created_at_unix_ms": token.created_ms,
        "created_by": token.created_by,
        "expires_at_unix_ms": token.expires_ms,
        "last_used_at_unix_ms": token.last_used_ms,
    })
}

async fn tokens(State(registry): State<Registry>, Query(query): Query<PageQuery>) -> Answer {
    let (limit, after) = (query.limit()?, query.after::<(i64, String)>()?);
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    let found = table::token_list(&mut db, after, i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |token| (token.created_ms, token.token_id.clone()));
    Ok(page("tokens", found.iter().map(token_body).collect(), token))
}

#[derive(Debug, Deserialize)]
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
async fn create_token(
    State(registry): State<Registry>,
    caller: Caller,
    JsonBody(request): JsonBody<NewToken>,
) -> Answer {
    require_text("name", &request.name)?;
    validate_principal(&request.principal).map_err(|why| Problem::invalid("principal", why))?;
    let life_s = request.expires_in_s;
    if life_s.is_some_and(|life_s| !(1..=MAX_LIFE_S).contains(&life_s)) {
        return Err(Problem::invalid("expires_in_s", format!("expected 1 to {MAX_LIFE_S} seconds")));
    }
    let secret = ApiToken::generate().map_err(Problem::internal)?;
    let now = now_ms();
    let token = Token {
        token_id: secret.id().to_owned(),
        name: request.name,
        principal: request.principal,
        created_ms: now,
        created_by: caller.actor.principal.clone(),
        expires_ms: life_s.map(|life_s| now + life_s * 1_000),
        last_used_ms: None,
    };
    let mut change = registry.change().await?;
    table::token_create(change.db(), &token, &secret.digest()).await?;
    let details =
        json!({"name": token.name, "principal": token.principal, "expires_at_unix_ms": token.expires_ms});
    change.tell("token", "created", token.token_id.as_str(), details).await?;
    change.commit().await?;
    let mut body = token_body(&token);
    body["token"] = secret.reveal().expose_secret().into();
    Ok(Json(body))
}

async fn revoke_token(State(registry): State<Registry>, Path(id): Path<String>) -> Answer {
    let mut change = registry.change().await?;
    let Some((name, principal)) = table::token_delete(change.db(), &id).await? else {
        return Err(Problem::not_found(format!("token `{id}`")));
    };
    change.tell("token", "revoked", id, json!({"name": name, "principal": principal})).await?;
    change.commit().await?;
    registry.access.forget();
    Ok(Json(json!({})))
}

fn grant_body(grant: &Grant) -> Value {
    json!({
        "subject": grant.subject,
        "scope": grant.scope,
        "role": grant.role,
        "granted_at_unix_ms": grant.granted_ms,
        "granted_by": grant.granted_by,
    })
}

#[derive(Debug, Deserialize)]
struct GrantsQuery {
    subject: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    limit: Option<u32>,
    page_token: Option<String>,
}

async fn grants(State(registry): State<Registry>, Query(query): Query<GrantsQuery>) -> Answer {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<(String, String)>()?);
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    let found = table::grant_list(&mut db, query.subject.as_deref(), after, i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |grant| (grant.subject.clone(), grant.scope.clone()));
    Ok(page("grants", found.iter().map(grant_body).collect(), token))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewGrant {
    /// A principal, or `group:<name>`.
    subject: String,
    /// `*`, `experiment:<id>` or `model:<name>`.
    scope: String,
    role: String,
}

async fn put_grant(
    State(registry): State<Registry>,
    caller: Caller,
    JsonBody(request): JsonBody<NewGrant>,
) -> Answer {
    validate_subject(&request.subject).map_err(|why| Problem::invalid("subject", why))?;
    let scope: Scope = request.scope.parse().map_err(|_| unknown_scope(&request.scope))?;
    let role: Role = request.role.parse().map_err(|_| {
        Problem::invalid(
            "role",
            format!("expected viewer, editor, deployer or admin, got '{}'", request.role),
        )
    })?;
    let grant = Grant {
        subject: request.subject,
        scope: scope.to_string(),
        role: role.name().to_owned(),
        granted_ms: now_ms(),
        granted_by: caller.actor.principal.clone(),
    };
    let mut change = registry.change().await?;
    let before = table::grant_put(change.db(), &grant).await?;
    let details =
        json!({"subject": grant.subject, "scope": grant.scope, "role": grant.role, "role_before": before});
    change.tell("grant", "set", format!("{} {}", grant.subject, grant.scope), details).await?;
    change.commit().await?;
    registry.access.forget();
    Ok(Json(grant_body(&grant)))
}

#[derive(Debug, Deserialize)]
struct WhichGrant {
    subject: String,
    scope: String,
}

async fn delete_grant(State(registry): State<Registry>, Query(which): Query<WhichGrant>) -> Answer {
    let scope: Scope = which.scope.parse().map_err(|_| unknown_scope(&which.scope))?;
    let scope = scope.to_string();
    let mut change = registry.change().await?;
    let Some(role) = table::grant_delete(change.db(), &which.subject, &scope).await? else {
        return Err(Problem::not_found(format!("grant of `{}` on `{scope}`", which.subject)));
    };
    let details = json!({"subject": which.subject, "scope": scope, "role": role});
    change.tell("grant", "removed", format!("{} {scope}", which.subject), details).await?;
    change.commit().await?;
    registry.access.forget();
    Ok(Json(json!({})))
}

fn unknown_scope(text: &str) -> Problem {
    Problem::invalid("scope", format!("expected *, experiment:<number> or model:<name>, got '{text}'"))
}

fn require_text(field: &str, text: &str) -> Result<(), Problem> {
    if is_name(text) {
        Ok(())
    } else {
        Err(Problem::invalid(field, format!("expected 1 to {MAX_NAME_CHARS} printable characters")))
    }
}

fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_NAME_CHARS && !text.chars().any(char::is_control)
}

/// What a caller may be called.
///
/// # Errors
/// Why not, for people.
pub(crate) fn validate_principal(principal: &str) -> Result<(), String> {
    if !is_name(principal) {
        return Err(format!("expected 1 to {MAX_NAME_CHARS} printable characters"));
    }
    if principal.starts_with(GROUP) || RESERVED.contains(&principal) {
        return Err(format!(
            "'{principal}' is no name for a caller: group:, anonymous and system mean others"
        ));
    }
    Ok(())
}

fn validate_subject(subject: &str) -> Result<(), String> {
    match subject.strip_prefix(GROUP) {
        Some(group) if is_name(group) => Ok(()),
        Some(_) => Err("expected the name of a group after group:".to_owned()),
        None => validate_principal(subject),
    }
}
