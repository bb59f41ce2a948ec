//! REST v1: validation reports of a version.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_domain::registry::report::{MIN_SEGMENT_ROWS, Report};
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{JsonBody, Path, Query};
use slipway_service_kit::page::{PageQuery, cut};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{Answer, page, version_of};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::registered_models::model_touch;
use crate::store::reports::{self as table, StoredReport};

/// One report with all its segments.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Reports of one version.
const MAX_REPORTS: i64 = 1_000;
/// Names that they have: each name's newest is read whenever the version is judged.
const MAX_NAMES: i64 = 50;

pub(super) fn router() -> OpenApiRouter<Registry> {
    let limited =
        OpenApiRouter::new().routes(routes!(list, add)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    limited.routes(routes!(show))
}

/// A report with the gaps between its segments, which are not posted but computed.
pub(crate) fn body(stored: &StoredReport) -> Value {
    let report = &stored.body.0;
    let mut body = json!(report);
    body["id"] = stored.report_id.as_str().into();
    body["created_at_unix_ms"] = stored.created_ms.into();
    body["gaps"] = json!(report.gaps(MIN_SEGMENT_ROWS));
    body
}

/// [`body`] without the segments, for lists.
pub(crate) fn summary(stored: &StoredReport) -> Value {
    let mut summary = body(stored);
    if let Some(fields) = summary.as_object_mut() {
        fields.remove("segments");
    }
    summary
}

/// Adds a validation report to a version. It never changes.
#[utoipa::path(post, path = "/api/v1/models/{name}/versions/{version}/reports", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)),
    request_body(content = Object, description = "name, dataset, rows, metrics; latency and segments where there are any", example = json!({
        "name": "holdout", "dataset": {"name": "loans-2026-10", "digest": "9f1c"}, "rows": 2000, "metrics": {"accuracy": 0.91},
        "latency": {"p50_ms": 1.2, "p95_ms": 2.0, "p99_ms": 3.5},
        "segments": [{"attribute": "region", "value": "north", "rows": 900, "metrics": {"accuracy": 0.92}},
            {"attribute": "region", "value": "south", "rows": 1100, "metrics": {"accuracy": 0.9}}]})),
    responses((status = 201, body = Object)))]
async fn add(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    JsonBody(report): JsonBody<Report>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    report.validate().map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    let mut change = registry.change().await?;
    model_touch(change.db(), &name, now_ms()).await?;
    let found = version_of(change.db(), &name, &version).await?;
    let key = (found.model_key, found.version);
    let (count, other_names) = table::report_counts(change.db(), key, &report.name).await?;
    if count >= MAX_REPORTS || other_names >= MAX_NAMES {
        return Err(Problem::conflict(format!(
            "version {version} of '{name}' has {count} reports already; {MAX_REPORTS} under {MAX_NAMES} names are kept"
        )));
    }
    let id = Uuid::now_v7().to_string();
    table::report_add(change.db(), key, &id, &report, now_ms()).await?;
    let stored = table::report_get(change.db(), key, &id).await?;
    let stored = stored.ok_or_else(|| Error::internal("a report is gone that was just added"))?;
    let details = json!({
        "model": name, "version": version, "report": id, "name": report.name, "dataset": report.dataset,
        "rows": report.rows, "metrics": report.metrics,
    });
    change.tell("report", "added", format!("{name}/{version}/{}", report.name), details).await?;
    change.commit().await?;
    Ok((StatusCode::CREATED, Json(body(&stored))))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only reports of this name.
    name: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    /// Items wanted, 1 to 1000; 50 without it.
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// Lists the reports of a version, the newest first, without their segments.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/reports", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path), ListQuery), responses((status = 200, body = Object)))]
async fn list(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, before) = (paging.limit()?, paging.after::<i64>()?);
    let mut db = registry.pool.acquire().await?;
    let found = version_of(&mut db, &name, &version).await?;
    let key = (found.model_key, found.version);
    let found = table::reports(&mut db, key, query.name.as_deref(), before, i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |report| report.seq);
    Ok(page("reports", found.iter().map(summary).collect(), token))
}

/// Shows a report, with the gaps between its segments.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/reports/{id}", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path), ("id" = String, Path)), responses((status = 200, body = Object)))]
async fn show(
    State(registry): State<Registry>,
    Path((name, version, id)): Path<(String, String, String)>,
) -> Answer {
    let mut db = registry.pool.acquire().await?;
    let found = version_of(&mut db, &name, &version).await?;
    let stored = table::report_get(&mut db, (found.model_key, found.version), &id).await?;
    let absent = || Error::not_found(format!("Version {version} of '{name}' has no report '{id}'"));
    Ok(Json(body(&stored.ok_or_else(absent)?)))
}
