//! REST v1: validation reports of a version.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_domain::registry::report::{MIN_SEGMENT_ROWS, Report};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, page, version_name};
use crate::state::Registry;
use crate::store::reports::StoredReport;
use crate::trust::reports as use_cases;

/// One report with all its segments.
const MAX_BODY_BYTES: usize = 1024 * 1024;
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
    let stored = use_cases::add(&registry, version_name(&name, &version)?, &report).await?;
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
    let version = version_name(&name, &version)?;
    let report_name = query.name.as_deref();
    let found = use_cases::list(&registry, version, report_name, before, i64::from(limit) + 1).await?;
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
    Ok(Json(body(&use_cases::get(&registry, version_name(&name, &version)?, &id).await?)))
}
