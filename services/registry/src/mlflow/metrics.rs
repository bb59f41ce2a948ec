//! Metrics: single points, batches with params and tags, histories.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde_json::json;
use slipway_domain::registry::{
    BatchSize, MAX_BATCH_BODY_BYTES, decode_page_token, encode_page_token, validate_batch,
    validate_max_results, validate_metric,
};

use super::message::{Message, stored_double};
use super::run_body::metric;
use super::runs::{params, tags};
use super::{Answer, Fields, answer, empty};
use crate::error::Error;
use crate::logging::Entry;
use crate::state::Registry;
use crate::store::metrics::{self as table, Point};
use crate::store::runs;

const MAX_HISTORY: usize = 25_000;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    Router::new()
        .route(&format!("{prefix}/2.0/mlflow/runs/log-metric"), post(log_metric))
        .route(&format!("{prefix}/2.0/mlflow/runs/log-batch"), post(log_batch))
        .route(&format!("{prefix}/2.0/mlflow/metrics/get-history"), get(history))
}

/// One point; `field` is where its key stands in the request.
fn point(fields: &Fields, field: &str) -> Result<Point, Error> {
    let point = Point {
        key: fields.required("key")?,
        value: stored_double(fields.required_double("value")?),
        at_ms: fields.required_integer("timestamp")?,
        step: fields.integer("step")?.unwrap_or(0),
        model_id: fields.non_empty("model_id")?,
        dataset_name: fields.non_empty("dataset_name")?,
        dataset_digest: fields.non_empty("dataset_digest")?,
    };
    validate_metric(field, &point.key, point.at_ms)?;
    Ok(point)
}

async fn log_metric(State(registry): State<Registry>, fields: Fields) -> Answer {
    let run_id = fields.run_id()?;
    let point = point(&fields, "key")?;
    registry.log.write(Entry { run_id, points: vec![point], ..Entry::default() }).await?;
    Ok(empty())
}

async fn log_batch(State(registry): State<Registry>, mut fields: Fields) -> Answer {
    if fields.body_bytes > MAX_BATCH_BODY_BYTES {
        return Err(Error::invalid(format!(
            "Batched logging API requests must be at most {MAX_BATCH_BODY_BYTES} bytes in size, got one of size {}.",
            fields.body_bytes
        )));
    }
    let run_id = fields.run_id()?;
    let (metrics, params_given, tags_given) =
        (fields.messages("metrics")?, fields.pairs("params")?, fields.pairs("tags")?);
    let size = BatchSize { metrics: metrics.len(), params: params_given.len(), tags: tags_given.len() };
    validate_batch(size, params_given.iter().map(|(key, _)| key.as_str()))?;
    let points = metrics
        .iter()
        .enumerate()
        .map(|(index, fields)| point(fields, &format!("metrics[{index}].key")))
        .collect::<Result<Vec<Point>, Error>>()?;
    let (params, tags) = (params(params_given)?, tags(tags_given)?);
    registry.log.write(Entry { run_id, points, params, tags }).await?;
    Ok(empty())
}

async fn history(State(registry): State<Registry>, fields: Fields) -> Answer {
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
    let mut points = table::metric_history(&mut db, run.run_key, &key, after, rows).await?;
    let more = points.len() > limit;
    points.truncate(limit);
    // JSON has no NaN, so a page that ends on one says null.
    let token = points.last().filter(|_| more).map(|point| {
        let value = Some(point.value).filter(|value| !value.is_nan());
        encode_page_token(&json!([point.at_ms, point.step, value]).to_string())
    });
    let points =
        points.iter().map(|point| metric(&point.key, point.value, point.at_ms, point.step)).collect();
    Ok(answer(Message::new().list("metrics", points).maybe("next_page_token", token)))
}
