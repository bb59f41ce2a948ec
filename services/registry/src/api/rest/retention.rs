//! REST v1: retention rules.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::Value;
use slipway_api::rest::registry as body;
use slipway_domain::registry::retention::Rule;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut, encode};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use crate::cleanup::retention::{self, Gone, Place};
use crate::cleanup::rules;
use crate::state::Registry;
use crate::store::retention::Stored;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(list)).routes(routes!(one, put, remove)).routes(routes!(apply))
}

fn rule_body(stored: Stored) -> body::RetentionRule {
    body::RetentionRule {
        name: stored.name,
        enabled: stored.enabled,
        rule: stored.rule.0.into(),
        created_at_unix_ms: stored.created_ms,
        updated_at_unix_ms: stored.updated_ms,
    }
}

/// Lists retention rules by name.
#[utoipa::path(get, path = "/api/v1/retention-rules", tag = "lifecycle", params(PageQuery),
    responses((status = 200, body = body::RetentionRulePage)))]
async fn list(
    State(registry): State<Registry>,
    Query(query): Query<PageQuery>,
) -> Answer<body::RetentionRulePage> {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let found = rules::list(&registry, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |stored| stored.name.clone());
    Ok(Json(body::RetentionRulePage {
        retention_rules: found.into_iter().map(rule_body).collect(),
        next_page_token,
    }))
}

/// Shows a retention rule.
#[utoipa::path(get, path = "/api/v1/retention-rules/{name}", tag = "lifecycle",
    params(("name" = String, Path)),
    responses((status = 200, body = body::RetentionRule)))]
async fn one(State(registry): State<Registry>, Path(name): Path<String>) -> Answer<body::RetentionRule> {
    Ok(Json(rule_body(rules::get(&registry, &name).await?)))
}

/// Creates or replaces a retention rule.
#[utoipa::path(put, path = "/api/v1/retention-rules/{name}", tag = "lifecycle",
    params(("name" = String, Path)),
    request_body = body::NewRetentionRule,
    responses((status = 200, body = body::RetentionRule),
        (status = 201, body = body::RetentionRule, description = "Created")))]
async fn put(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(mut fields): JsonBody<serde_json::Map<String, Value>>,
) -> Result<(StatusCode, Json<body::RetentionRule>), Problem> {
    let enabled = match fields.remove("enabled") {
        None => true,
        Some(Value::Bool(enabled)) => enabled,
        Some(other) => {
            return Err(Problem::invalid("enabled", format!("expected true or false, got {other}")));
        }
    };
    // Apart from `enabled`, so that unknown fields are rejected.
    let text = serde_json::to_vec(&fields).unwrap_or_default();
    let rule: Rule = slipway_http_server::extract::parse_json(&text)?;
    let (stored, is_new) = rules::put(&registry, &name, &rule, enabled).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(rule_body(stored))))
}

/// Deletes a retention rule. What it archived stays archived.
#[utoipa::path(delete, path = "/api/v1/retention-rules/{name}", tag = "lifecycle",
    params(("name" = String, Path)),
    responses((status = 204, description = "It is deleted")))]
async fn remove(State(registry): State<Registry>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    rules::delete(&registry, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn retired(gone: Gone) -> body::Retired {
    body::Retired {
        kind: gone.kind.to_owned(),
        id: gone.id,
        reason: gone.reason,
        size_bytes: gone.size_bytes,
    }
}

/// Applies a rule to a page of runs or versions, or lists what it would archive or delete, whether the rule
/// is enabled or not.
///
/// It can be interrupted and repeated.
#[utoipa::path(post, path = "/api/v1/retention-rules/{name}/run", tag = "lifecycle",
    params(("name" = String, Path), body::ApplyQuery),
    responses((status = 200, body = body::Applied)))]
async fn apply(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(query): Query<body::ApplyQuery>,
) -> Answer<body::Applied> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, place) = (paging.limit()?, paging.after::<Place>()?);
    let dry_run = query.dry_run.unwrap_or(true);
    let rule = rules::get(&registry, &name).await?.rule.0;
    let page = retention::step(&registry, &name, &rule, place, i64::from(limit), dry_run).await?;
    Ok(Json(body::Applied {
        dry_run,
        action: rule.action,
        examined: page.examined as u64,
        size_bytes: page.gone.iter().map(|gone| gone.size_bytes).sum(),
        goes: page.gone.into_iter().map(retired).collect(),
        next_page_token: page.next.as_ref().map(encode),
    }))
}
