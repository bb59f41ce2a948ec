//! REST v1: histories of metrics, page by page and sampled for charts.

use axum::Json;
use axum::extract::State;
use slipway_api::rest::Number;
use slipway_api::rest::registry as body;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, encode};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use crate::access::caller::Caller;
use crate::state::Registry;
use crate::store::metrics::Wanted;
use crate::tracking::histories as use_cases;

const MAX_RUNS: usize = 100;
const MAX_KEYS: usize = 50;
/// A stretch is represented by 4 points.
const MIN_POINTS: u32 = 4;
const MAX_POINTS: u32 = 5_000;
const DEFAULT_POINTS: u32 = 500;
/// Points of one response.
const MAX_TOTAL_POINTS: usize = 200_000;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(history)).routes(routes!(sample))
}

/// Reads a page of the history of a metric, oldest first.
#[utoipa::path(get, path = "/api/v1/runs/{run_id}/metrics/{key}", tag = "metrics",
    params(("run_id" = String, Path), ("key" = String, Path), PageQuery),
    responses((status = 200, body = body::MetricHistory)))]
async fn history(
    State(registry): State<Registry>,
    Path((run_id, key)): Path<(String, String)>,
    Query(query): Query<PageQuery>,
) -> Answer<body::MetricHistory> {
    let (limit, after) = (query.limit()?, query.after::<(i64, i64, Number)>()?);
    let after = after.map(|(at_ms, step, value)| (at_ms, step, value.0));
    let page = use_cases::page(&registry, &run_id, &key, after, i64::from(limit) + 1).await?;
    let more = page.values.len() > limit as usize;
    let points: Vec<body::Point> = (page.values.iter().zip(&page.times).zip(&page.steps))
        .take(limit as usize)
        .map(|((&value, &timestamp), &step)| body::Point { step, timestamp, value: Number(value) })
        .collect();
    let last = points.last().filter(|_| more);
    let next_page_token = last.map(|point| encode(&(point.timestamp, point.step, point.value)));
    Ok(Json(body::MetricHistory { points, next_page_token }))
}

/// Checks the size of a request for samples; the points of each series.
fn points_of_each(request: &body::SampleRequest) -> Result<u32, Problem> {
    let (runs, keys) = (request.run_ids.len(), request.keys.len());
    if !(1..=MAX_RUNS).contains(&runs) {
        return Err(Problem::invalid("run_ids", format!("expected 1 to {MAX_RUNS} runs, got {runs}")));
    }
    if !(1..=MAX_KEYS).contains(&keys) {
        return Err(Problem::invalid("keys", format!("expected 1 to {MAX_KEYS} metrics, got {keys}")));
    }
    if let (Some(start), Some(end)) = (request.start_step, request.end_step)
        && start > end
    {
        return Err(Problem::invalid(
            "end_step",
            format!("expected {start} (start_step) or more, got {end}"),
        ));
    }
    let points = request.max_points.unwrap_or(DEFAULT_POINTS);
    if !(MIN_POINTS..=MAX_POINTS).contains(&points) {
        let message = format!("expected {MIN_POINTS} to {MAX_POINTS}, got {points}");
        return Err(Problem::invalid("max_points", message));
    }
    let total = runs * keys * points as usize;
    if total > MAX_TOTAL_POINTS {
        let message = format!(
            "expected at most {MAX_TOTAL_POINTS} points in one response, got {runs} runs × {keys} metrics \
             × {points} points"
        );
        return Err(Problem::invalid("max_points", message));
    }
    Ok(points)
}

/// Samples histories for charts: several metrics of several runs, with a bounded number of points.
///
/// A series with more points than `max_points` is divided into stretches, each represented by its first,
/// lowest, highest and last point, so that peaks survive.
#[utoipa::path(post, path = "/api/v1/metrics/sample", tag = "metrics", request_body = body::SampleRequest,
    responses((status = 200, body = body::Samples), (status = 404, description = "A run does not exist")))]
async fn sample(
    State(registry): State<Registry>,
    caller: Caller,
    JsonBody(request): JsonBody<body::SampleRequest>,
) -> Answer<body::Samples> {
    let max_points = points_of_each(&request)?;
    let wanted = Wanted {
        run_ids: &request.run_ids,
        keys: &request.keys,
        start_step: request.start_step.unwrap_or(i64::MIN),
        end_step: request.end_step.unwrap_or(i64::MAX),
        max_points,
    };
    let mut series: Vec<body::Series> = Vec::new();
    for point in use_cases::chart(&registry, &caller, wanted).await? {
        let value = body::Point { step: point.step, timestamp: point.at_ms, value: Number(point.value) };
        match series.last_mut() {
            Some(last) if last.run_id == point.run_id && last.key == point.key => last.points.push(value),
            _ => series.push(body::Series {
                run_id: point.run_id,
                key: point.key,
                total_points: point.total_points,
                points: vec![value],
            }),
        }
    }
    Ok(Json(body::Samples { series }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_too_much_names_the_field() {
        let many = |count: usize| vec!["a".to_owned(); count];
        let request = |runs, keys, max_points| body::SampleRequest {
            run_ids: many(runs),
            keys: many(keys),
            max_points,
            ..body::SampleRequest::default()
        };
        assert_eq!(points_of_each(&request(1, 1, None)).unwrap(), DEFAULT_POINTS);
        for (request, field) in [
            (request(0, 1, None), "run_ids"),
            (request(101, 1, None), "run_ids"),
            (request(1, 0, None), "keys"),
            (request(1, 1, Some(3)), "max_points"),
            (request(100, 50, Some(500)), "max_points"),
            (
                body::SampleRequest { start_step: Some(2), end_step: Some(1), ..request(1, 1, None) },
                "end_step",
            ),
        ] {
            let problem = points_of_each(&request).unwrap_err();
            assert_eq!(serde_json::to_value(&problem).unwrap()["field"], field, "{request:?}");
        }
    }
}
