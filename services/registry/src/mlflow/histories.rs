//! Metrics as they are read: whole histories page by page, those of many runs at once, and samples of them for charts.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use slipway_domain::registry::{decode_page_token, encode_page_token, validate_max_results};

use super::Fields;
use super::run_body::Metric;
use crate::error::Error;
use crate::state::Registry;
use crate::store::metrics::{self as table, RunPoint};
use crate::store::runs;

const MAX_HISTORY: usize = 25_000;
const MAX_RUNS: usize = 100;
/// Points of each run in a sample.
const MAX_SAMPLE: usize = 2_500;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let path = |name: &str| format!("{prefix}/2.0/mlflow/metrics/{name}");
    Router::new()
        .route(&path("get-history"), get(history))
        .route(&path("get-history-bulk"), get(bulk))
        .route(&path("get-history-bulk-interval"), get(interval))
}

async fn history(State(registry): State<Registry>, fields: Fields) -> Result<Response, Error> {
    let (run_id, key) = (fields.run_id()?, fields.required("metric_key")?);
    let limit = validate_max_results(fields.integer("max_results")?, MAX_HISTORY, MAX_HISTORY)?;
    let after = decode_page_token(&fields.string("page_token")?.unwrap_or_default())?
        .map(|position| {
            serde_json::from_str::<(i64, i64, Option<f64>)>(&position)
                .map(|(at_ms, step, value)| (at_ms, step, value.unwrap_or(f64::NAN)))
                .map_err(|_| Error::invalid("Invalid page token, could not base64-decode"))
        })
        .transpose()?;
    let mut db = registry.pool.acquire().await?;
    let run = runs::run_info(&mut db, &run_id).await?;
    let rows = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
    let page = table::metric_history(&mut db, run.run_key, &key, after, rows).await?;
    let more = page.values.len() > limit;
    let metrics: Vec<Metric<'_>> = (page.values.iter().zip(&page.times).zip(&page.steps).take(limit))
        .map(|((&value, &at_ms), &step)| Metric { key: &key, value, at_ms, step, run_id: None })
        .collect();
    // JSON has no NaN, so a page that ends on one says null.
    let token = metrics.last().filter(|_| more).map(|point| {
        let value = Some(point.value).filter(|value| !value.is_nan());
        encode_page_token(&json!([point.at_ms, point.step, value]).to_string())
    });
    Ok(Metrics { metrics, next_page_token: token }.into_response())
}

/// The histories of several runs, one after another.
async fn bulk(State(registry): State<Registry>, fields: Fields) -> Result<Response, Error> {
    let run_ids = run_ids(&fields, "run_id", "GetMetricHistoryBulk")?;
    let key = fields.required("metric_key")?;
    let limit = validate_max_results(fields.integer("max_results")?, MAX_HISTORY, MAX_HISTORY)?;
    let mut db = registry.pool.acquire().await?;
    let points = table::metric_histories(&mut db, &run_ids, &key, limit).await?;
    Ok(of_runs(&points))
}

/// At most `max_results` points of each run between two steps, the first and the last among them.
async fn interval(State(registry): State<Registry>, fields: Fields) -> Result<Response, Error> {
    let run_ids = run_ids(&fields, "run_ids", "GetMetricHistoryBulkInterval")?;
    let key = fields.required("metric_key")?;
    let limit = validate_max_results(fields.integer("max_results")?, MAX_SAMPLE, MAX_SAMPLE)?;
    let (start, end) = (fields.integer("start_step")?, fields.integer("end_step")?);
    if start.is_some() != end.is_some() {
        return Err(Error::invalid(
            "If either start step or end step are specified, both must be specified.",
        ));
    }
    let (start, end) = (start.unwrap_or(i64::MIN), end.unwrap_or(i64::MAX));
    if start > end {
        return Err(Error::invalid(format!(
            "end_step must be greater than start_step. Found start_step={start} and end_step={end}."
        )));
    }
    let mut db = registry.pool.acquire().await?;
    let points = table::metric_samples(&mut db, &run_ids, &key, (start, end), limit).await?;
    Ok(of_runs(&points))
}

/// Points as they are answered, written without a tree in between: a page has up to 25 000.
#[derive(Serialize)]
struct Metrics<'points> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Metric<'points>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

impl IntoResponse for Metrics<'_> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

fn of_runs(points: &[RunPoint]) -> Response {
    let metrics = points.iter().map(|point| Metric {
        key: &point.key,
        value: point.value,
        at_ms: point.at_ms,
        step: point.step,
        run_id: Some(&point.run_id),
    });
    Metrics { metrics: metrics.collect(), next_page_token: None }.into_response()
}

fn run_ids(fields: &Fields, name: &str, request: &str) -> Result<Vec<String>, Error> {
    let run_ids = fields.strings(name)?;
    match run_ids.len() {
        0 => Err(Error::invalid(format!("{request} request must specify at least one run_id."))),
        1..=MAX_RUNS => Ok(run_ids),
        count => Err(Error::invalid(format!(
            "{request} request cannot specify more than {MAX_RUNS} run_ids. Received {count} run_ids."
        ))),
    }
}
