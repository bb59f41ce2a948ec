//! Metrics as they are read: whole histories page by page, those of many runs at once, and samples of them
//! for charts.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use slipway_domain::registry::{decode_page_token, encode_page_token};

use super::Fields;
use super::error::{Failure, SEE_DOCS};
use super::run_body::Metric;
use crate::state::Registry;
use crate::store::metrics::RunPoint;
use crate::tracking::histories as use_cases;

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

async fn history(State(registry): State<Registry>, fields: Fields) -> Result<Response, Failure> {
    let (run_id, key) = (fields.run_id()?, fields.required("metric_key")?);
    let limit = match fields.integer("max_results")? {
        None => MAX_HISTORY,
        Some(asked) => usize::try_from(asked)
            .ok()
            .filter(|asked| *asked > 0)
            .map(|asked| asked.min(MAX_HISTORY))
            .ok_or_else(|| {
                Failure::invalid(format!(
                    "Invalid value {asked} for parameter 'max_results' supplied. It must be a positive \
                     integer."
                ))
            })?,
    };
    let after = decode_page_token(&fields.string("page_token")?.unwrap_or_default())?
        .map(|position| {
            serde_json::from_str::<(i64, i64, Option<f64>)>(&position)
                .map(|(at_ms, step, value)| (at_ms, step, value.unwrap_or(f64::NAN)))
                .map_err(|_| Failure::invalid("Invalid page token, could not base64-decode"))
        })
        .transpose()?;
    let rows = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
    let page = use_cases::page(&registry, &run_id, &key, after, rows).await?;
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
async fn bulk(State(registry): State<Registry>, fields: Fields) -> Result<Response, Failure> {
    let run_ids = fields.strings("run_id")?;
    let refused = match run_ids.len() {
        0 => Some("GetMetricHistoryBulk request must specify at least one run_id.".to_owned()),
        1..=MAX_RUNS => None,
        count => Some(format!(
            "GetMetricHistoryBulk request cannot specify more than {MAX_RUNS} run_ids. Received {count} \
             run_ids."
        )),
    };
    if let Some(message) = refused {
        return Err(Failure::invalid(message));
    }
    let key = fields
        .string("metric_key")?
        .ok_or_else(|| Failure::invalid("GetMetricHistoryBulk request must specify a metric_key."))?;
    let asked = fields.integer("max_results")?.map(|asked| usize::try_from(asked).unwrap_or(0));
    let limit = asked.unwrap_or(MAX_HISTORY).min(MAX_HISTORY);
    let points = use_cases::of_runs(&registry, &run_ids, &key, limit).await?;
    // Here MLflow answers with a list even where it is empty.
    Ok(if points.is_empty() { Json(json!({"metrics": []})).into_response() } else { of_runs(&points) })
}

/// At most `max_results` points of each run between two steps, the first and the last among them.
async fn interval(State(registry): State<Registry>, fields: Fields) -> Result<Response, Failure> {
    let run_ids = fields.strings("run_ids")?;
    if run_ids.is_empty() {
        return Err(fields.missing("run_ids"));
    }
    if run_ids.len() > MAX_RUNS {
        return Err(Failure::invalid(format!(
            "GetMetricHistoryBulkInterval request must specify at most {MAX_RUNS} run_ids. Received {} \
             run_ids. {SEE_DOCS}",
            run_ids.len()
        )));
    }
    let key = fields.required("metric_key")?;
    let limit = match fields.integer("max_results")? {
        None => MAX_SAMPLE,
        Some(asked) => {
            usize::try_from(asked).ok().filter(|asked| (1..=MAX_SAMPLE).contains(asked)).ok_or_else(|| {
                Failure::invalid(format!("max_results must be between 1 and {MAX_SAMPLE}. {SEE_DOCS}"))
            })?
        }
    };
    let (start, end) = (fields.integer("start_step")?, fields.integer("end_step")?);
    if start.is_some() != end.is_some() {
        return Err(Failure::invalid(
            "If either start step or end step are specified, both must be specified.",
        ));
    }
    let (start, end) = (start.unwrap_or(i64::MIN), end.unwrap_or(i64::MAX));
    if start > end {
        return Err(Failure::invalid(format!(
            "end_step must be greater than start_step. Found start_step={start} and end_step={end}."
        )));
    }
    let points = use_cases::samples(&registry, &run_ids, &key, (start, end), limit).await?;
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
