//! Metrics as they are logged: single points, and batches with params and tags.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use slipway_domain::registry::{BatchSize, MAX_BATCH_BODY_BYTES, validate_batch, validate_metric};

use super::error::Failure;
use super::message::stored_double;
use super::request::require_keys;
use super::runs::{params, tags};
use super::{Answer, Fields, empty};
use crate::state::Registry;
use crate::store::metrics::Point;
use crate::tracking::log_batch::LogBatch;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    Router::new()
        .route(&format!("{prefix}/2.0/mlflow/runs/log-metric"), post(log_metric))
        .route(&format!("{prefix}/2.0/mlflow/runs/log-batch"), post(log_batch))
}

/// One point; `path` is where it stands in the request.
fn point(fields: &Fields, path: &str) -> Result<Point, Failure> {
    let point = Point {
        key: fields.required("key")?,
        value: stored_double(fields.required_double("value")?),
        at_ms: fields.required_integer("timestamp")?,
        step: fields.integer("step")?.unwrap_or(0),
        model_id: fields.non_empty("model_id")?,
        dataset_name: fields.non_empty("dataset_name")?,
        dataset_digest: fields.non_empty("dataset_digest")?,
    };
    if point.dataset_name.is_some() != point.dataset_digest.is_some() {
        return Err(Failure::invalid(
            "Both dataset_name and dataset_digest must be provided if one is provided",
        ));
    }
    validate_metric(path, &point.key, point.value, point.at_ms)?;
    Ok(point)
}

async fn log_metric(State(registry): State<Registry>, fields: Fields) -> Answer {
    let run_id = fields.run_id()?;
    let point = point(&fields, "")?;
    registry.log.write(LogBatch { run_id, points: vec![point], ..LogBatch::default() }).await?;
    Ok(empty())
}

async fn log_batch(State(registry): State<Registry>, mut fields: Fields) -> Answer {
    if fields.body_bytes > MAX_BATCH_BODY_BYTES {
        return Err(Failure::invalid(format!(
            "Batched logging API requests must be at most {MAX_BATCH_BODY_BYTES} bytes, got a request of \
             size {}.",
            fields.body_bytes
        )));
    }
    let run_id = fields.run_id()?;
    let (metrics, params_given, tags_given) =
        (fields.messages("metrics")?, fields.pairs("params")?, fields.pairs("tags")?);
    require_keys("params", &params_given)?;
    require_keys("tags", &tags_given)?;
    let size = BatchSize { metrics: metrics.len(), params: params_given.len(), tags: tags_given.len() };
    validate_batch(size, params_given.iter().map(|(key, _)| key.as_str()))?;
    let points = metrics
        .iter()
        .enumerate()
        .map(|(index, fields)| point(fields, &format!("metrics[{index}].")))
        .collect::<Result<Vec<Point>, Failure>>()?;
    let (params, tags) = (params(params_given)?, tags(tags_given)?);
    registry.log.write(LogBatch { run_id, points, params, tags }).await?;
    Ok(empty())
}
