//! REST v1: retention rules.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_domain::registry::retention::Rule;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut, encode};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::cleanup::retention::{self, Gone, Place};
use crate::cleanup::rules;
use crate::state::Registry;
use crate::store::retention::Stored;

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one, put, remove)).routes(routes!(apply))
}

/// The conditions of a rule; each that is given has to hold before something goes.
#[derive(Debug, Deserialize, ToSchema)]
struct RuleBody {
    /// `{"scope": "all"}`, `{"scope": "experiment", "experiment": …}`, `{"scope": "tag", "key": …, "value": …}` for runs;
    /// `{"scope": "model", "model": …}` for versions.
    #[serde(rename = "for")]
    #[schema(value_type = Object, example = json!({"scope": "experiment", "experiment": "sweeps"}))]
    _scope: Value,
    /// Goes only when it ended or was made so many days ago.
    #[serde(rename = "after_days")]
    #[schema(example = 30)]
    _after_days: Option<u32>,
    /// Goes only when it is not among the best `k` by a metric; `goal` is `maximize` or `minimize`.
    #[serde(rename = "keep_best")]
    #[schema(value_type = Option<Object>, example = json!({"metric": "accuracy", "k": 5, "goal": "maximize"}))]
    _keep_best: Option<Value>,
    /// Goes only when it is not among the newest so many.
    #[serde(rename = "keep_last")]
    _keep_last: Option<u32>,
    /// `archive`: may be restored; `delete`: gone for good.
    #[serde(rename = "action")]
    #[schema(example = "archive")]
    _action: String,
    /// Also runs from which a model version was made; they can only be archived.
    #[serde(rename = "include_registered")]
    _include_registered: Option<bool>,
    /// Whether it is applied from time to time; true where absent.
    #[serde(rename = "enabled")]
    _enabled: Option<bool>,
}

/// A rule with its name.
#[derive(Debug, Serialize, ToSchema)]
struct NamedRule {
    name: String,
    enabled: bool,
    /// The conditions as they were given.
    #[schema(value_type = Object)]
    #[serde(flatten)]
    rule: Rule,
    created_at_unix_ms: i64,
    updated_at_unix_ms: i64,
}

impl From<Stored> for NamedRule {
    fn from(stored: Stored) -> Self {
        Self {
            name: stored.name,
            enabled: stored.enabled,
            rule: stored.rule.0,
            created_at_unix_ms: stored.created_ms,
            updated_at_unix_ms: stored.updated_ms,
        }
    }
}

/// A page of rules, by name.
#[derive(Debug, Serialize, ToSchema)]
struct Rules {
    retention_rules: Vec<NamedRule>,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// Lists retention rules by name.
#[utoipa::path(get, path = "/api/v1/retention-rules", tag = "lifecycle", params(PageQuery), responses((status = 200, body = Rules)))]
async fn list(
    State(registry): State<Registry>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Rules>, Problem> {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let found = rules::list(&registry, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |stored| stored.name.clone());
    Ok(Json(Rules { retention_rules: found.into_iter().map(NamedRule::from).collect(), next_page_token }))
}

/// Shows a retention rule.
#[utoipa::path(get, path = "/api/v1/retention-rules/{name}", tag = "lifecycle", params(("name" = String, Path)),
    responses((status = 200, body = NamedRule)))]
async fn one(State(registry): State<Registry>, Path(name): Path<String>) -> Result<Json<NamedRule>, Problem> {
    Ok(Json(rules::get(&registry, &name).await?.into()))
}

/// Makes a retention rule, or replaces it.
#[utoipa::path(put, path = "/api/v1/retention-rules/{name}", tag = "lifecycle", params(("name" = String, Path)),
    request_body = RuleBody, responses((status = 200, body = NamedRule), (status = 201, body = NamedRule, description = "Made")))]
async fn put(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(mut body): JsonBody<serde_json::Map<String, Value>>,
) -> Result<(StatusCode, Json<NamedRule>), Problem> {
    let enabled = match body.remove("enabled") {
        None => true,
        Some(Value::Bool(enabled)) => enabled,
        Some(other) => {
            return Err(Problem::invalid("enabled", format!("expected true or false, got {other}")));
        }
    };
    // Apart from `enabled`, so that a field that no rule has is refused.
    let text = serde_json::to_vec(&body).unwrap_or_default();
    let rule: Rule = slipway_http_server::extract::parse_json(&text)?;
    let (stored, is_new) = rules::put(&registry, &name, &rule, enabled).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(stored.into())))
}

/// Removes a retention rule; what it let go of stays as it is.
#[utoipa::path(delete, path = "/api/v1/retention-rules/{name}", tag = "lifecycle", params(("name" = String, Path)),
    responses((status = 204)))]
async fn remove(State(registry): State<Registry>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    rules::delete(&registry, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ApplyQuery {
    /// Says what would go; the default.
    dry_run: Option<bool>,
    /// Things to look at, 1 to 1000; 50 without it.
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// Something that goes.
#[derive(Debug, Serialize, ToSchema)]
struct GoneBody {
    /// `run` or `model-version`.
    kind: &'static str,
    id: String,
    /// Which conditions it met.
    reason: String,
    /// Bytes that nothing else refers to; they leave the bucket about an hour later.
    size_bytes: i64,
}

impl From<Gone> for GoneBody {
    fn from(gone: Gone) -> Self {
        Self { kind: gone.kind, id: gone.id, reason: gone.reason, size_bytes: gone.size_bytes }
    }
}

/// What a page of a run of a rule came to.
#[derive(Debug, Serialize, ToSchema)]
struct Applied {
    dry_run: bool,
    /// `archive` or `delete`.
    #[schema(value_type = String)]
    action: slipway_domain::registry::retention::Action,
    /// Things looked at.
    examined: usize,
    goes: Vec<GoneBody>,
    /// Bytes freed by this page.
    size_bytes: i64,
    /// Leads to the next page; absent where everything was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// Applies a rule to a page of what it is about, or says what would go.
///
/// Enabled or not. It may be interrupted and repeated.
#[utoipa::path(post, path = "/api/v1/retention-rules/{name}/run", tag = "lifecycle", params(("name" = String, Path), ApplyQuery),
    responses((status = 200, body = Applied)))]
async fn apply(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(query): Query<ApplyQuery>,
) -> Result<Json<Applied>, Problem> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, place) = (paging.limit()?, paging.after::<Place>()?);
    let dry_run = query.dry_run.unwrap_or(true);
    let rule = rules::get(&registry, &name).await?.rule.0;
    let page = retention::step(&registry, &name, &rule, place, i64::from(limit), dry_run).await?;
    Ok(Json(Applied {
        dry_run,
        action: rule.action,
        examined: page.examined,
        size_bytes: page.gone.iter().map(|gone| gone.size_bytes).sum(),
        goes: page.gone.into_iter().map(GoneBody::from).collect(),
        next_page_token: page.next.as_ref().map(encode),
    }))
}
