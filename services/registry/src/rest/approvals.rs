//! REST v1: who approved a version.

use axum::extract::{Path, State};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{JsonBody, Query};
use slipway_service_kit::page::{PageQuery, cut};

use super::{Answer, page, version_of};
use crate::error::Error;
use crate::state::{Registry, now_ms};
use crate::store::registered_models::model_touch;
use crate::store::reports::{self as table, Approval};

/// People who approve one version.
const MAX_APPROVALS: usize = 100;
/// Characters of a person's name.
const MAX_NAME_CHARS: usize = 250;
/// Characters of a comment.
const MAX_COMMENT_CHARS: usize = 5_000;

pub(super) fn router() -> Router<Registry> {
    Router::new()
        .route("/api/v1/models/{name}/versions/{version}/approvals", get(list).post(add))
        .route("/api/v1/models/{name}/versions/{version}/approvals/{by}", delete(withdraw))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewApproval {
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    comment: Option<String>,
}

/// Who approves. Nothing proves that they are who they say: the name is worth as much as the caller's is.
fn approver(named: Option<&str>) -> Result<String, Problem> {
    let by = named.map(str::trim).unwrap_or_default();
    if by.is_empty() || by.chars().count() > MAX_NAME_CHARS || by.contains('\0') {
        let expected = format!("expected who approves, 1 to {MAX_NAME_CHARS} characters");
        return Err(Problem::invalid("by", expected));
    }
    Ok(by.to_owned())
}

pub(crate) fn body(approval: &Approval) -> Value {
    json!({"by": approval.approver, "comment": approval.comment, "at_unix_ms": approval.created_ms})
}

async fn add(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    JsonBody(new): JsonBody<NewApproval>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let by = approver(new.by.as_deref())?;
    if new.comment.as_ref().is_some_and(|text| text.chars().count() > MAX_COMMENT_CHARS) {
        return Err(Problem::invalid("comment", format!("expected up to {MAX_COMMENT_CHARS} characters")));
    }
    let mut change = registry.change().await?;
    model_touch(change.db(), &name, now_ms()).await?;
    let found = version_of(change.db(), &name, &version).await?;
    let key = (found.model_key, found.version);
    let there = table::approvals(change.db(), key, None, MAX_APPROVALS as i64).await?;
    if let Some(before) = there.iter().find(|one| one.approver == by) {
        // Approved is approved: asking again changes nothing.
        return Ok((StatusCode::OK, Json(body(before))));
    }
    if there.len() >= MAX_APPROVALS {
        return Err(Problem::conflict(format!("{MAX_APPROVALS} people approved it already")));
    }
    let approval = Approval { approver: by, comment: new.comment, created_ms: now_ms() };
    table::approval_add(change.db(), key, &approval).await?;
    let details = json!({"model": name, "version": version, "digest": found.digest, "by": approval.approver});
    change.tell("approval", "added", format!("{name}/{version}"), details).await?;
    change.commit().await?;
    Ok((StatusCode::CREATED, Json(body(&approval))))
}

async fn withdraw(
    State(registry): State<Registry>,
    Path((name, version, by)): Path<(String, String, String)>,
) -> Answer {
    let by = approver(Some(&by))?;
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

async fn list(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<PageQuery>,
) -> Answer {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    let found = version_of(&mut db, &name, &version).await?;
    let key = (found.model_key, found.version);
    let found = table::approvals(&mut db, key, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |approval| approval.approver.clone());
    Ok(page("approvals", found.iter().map(body).collect(), token))
}
