//! REST v1: validation reports of a version.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use http::StatusCode;
use slipway_api::rest::registry as body;
use slipway_domain::registry::report::{MIN_SEGMENT_ROWS, Report};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::bodies::version_name;
use crate::state::Registry;
use crate::store::reports::StoredReport;
use crate::trust::reports as use_cases;

/// One report with all its segments.
const MAX_BODY_BYTES: usize = 1024 * 1024;

pub(super) fn router() -> DocumentedRouter<Registry> {
    let limited =
        DocumentedRouter::new().routes(routes!(list, add)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    limited.routes(routes!(show))
}

/// A report with the gaps between its segments, which are computed.
pub(super) fn report_details(stored: &StoredReport) -> body::ReportDetails {
    body::ReportDetails { summary: report_summary(stored), segments: stored.body.0.segments.clone() }
}

/// The same without the segments, for lists.
pub(super) fn report_summary(stored: &StoredReport) -> body::ReportSummary {
    let report = &stored.body.0;
    body::ReportSummary {
        id: stored.report_id.clone(),
        name: report.name.clone(),
        dataset: report.dataset.clone(),
        rows: report.rows,
        metrics: report.metrics.clone(),
        latency: report.latency,
        source: report.source.clone(),
        gaps: report.gaps(MIN_SEGMENT_ROWS),
        created_at_unix_ms: stored.created_ms,
    }
}

/// Adds a validation report to a version. A report never changes.
#[utoipa::path(post, path = "/api/v1/models/{name}/versions/{version}/reports", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)),
    request_body(content = Report,
        description = "name, dataset, rows, metrics; latency and segments where there are any",
            example = json!({
        "name": "holdout", "dataset": {"name": "loans-2026-10", "digest": "9f1c"}, "rows": 2000,
            "metrics": {"accuracy": 0.91},
        "latency": {"p50_ms": 1.2, "p95_ms": 2.0, "p99_ms": 3.5},
        "segments": [{"attribute": "region", "value": "north", "rows": 900, "metrics": {"accuracy": 0.92}},
            {"attribute": "region", "value": "south", "rows": 1100, "metrics": {"accuracy": 0.9}}]})),
    responses((status = 201, body = body::ReportDetails),
        (status = 409, description = "The version has too many reports")))]
async fn add(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    JsonBody(report): JsonBody<Report>,
) -> Result<(StatusCode, Json<body::ReportDetails>), Problem> {
    let stored = use_cases::add(&registry, version_name(&name, &version)?, &report).await?;
    Ok((StatusCode::CREATED, Json(report_details(&stored))))
}

/// Lists the reports of a version, newest first, without their segments.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/reports", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path), body::ReportsQuery),
    responses((status = 200, body = body::ReportPage)))]
async fn list(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<body::ReportsQuery>,
) -> Answer<body::ReportPage> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, before) = (paging.limit()?, paging.after::<i64>()?);
    let version = version_name(&name, &version)?;
    let report_name = query.name.as_deref();
    let found = use_cases::list(&registry, version, report_name, before, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |report| report.seq);
    Ok(Json(body::ReportPage { reports: found.iter().map(report_summary).collect(), next_page_token }))
}

/// Shows a report, with the gaps between its segments.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/reports/{id}", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = body::ReportDetails)))]
async fn show(
    State(registry): State<Registry>,
    Path((name, version, id)): Path<(String, String, String)>,
) -> Answer<body::ReportDetails> {
    Ok(Json(report_details(&use_cases::get(&registry, version_name(&name, &version)?, &id).await?)))
}
