//! Training scripts: runs with metrics.

use serde_json::json;

use super::client::{Client, Request};
use crate::chaos::board::now_ms;
use crate::chaos::faults::Service;
use crate::chaos::journal::{Point, Run};

/// Batches of a run.
const BATCHES: i64 = 5;
const POINTS_OF_BATCH: i64 = 4;
const PAUSE_MS: u64 = 60;
/// Name of the metric.
pub(in crate::chaos) const METRIC: &str = "loss";

/// Creates runs and logs metrics until the load stops.
pub(super) async fn write(client: Client, writer: usize, seed: u64) {
    for number in 0u64.. {
        let id = format!("{seed:016x}{writer:04x}{number:012x}");
        if run(&client, &id).await.is_none() && client.stopped() || !client.pause(PAUSE_MS).await {
            return;
        }
    }
}

/// One run; `None` if it was not finished.
async fn run(client: &Client, id: &str) -> Option<()> {
    let post =
        |path: &str, body| Request::post(Service::Registry, format!("/api/2.0/mlflow/runs/{path}"), body);
    let create = json!({"experiment_id": "0", "run_id": id, "start_time": now_ms()});
    client.change("create a run", &post("create", create)).await?;
    client.journal().lock().runs.insert(id.to_owned(), Run::default());
    for batch in 0..BATCHES {
        let steps = batch * POINTS_OF_BATCH..(batch + 1) * POINTS_OF_BATCH;
        let at_ms = now_ms().cast_signed();
        let points: Vec<Point> =
            steps.map(|step| Point { step, at_ms, value: 1.0 / (step + 1) as f64 }).collect();
        let body = |point: &Point| {
            let Point { step, at_ms, value } = point;
            json!({"key": METRIC, "value": value, "timestamp": at_ms, "step": step})
        };
        let metrics: Vec<_> = points.iter().map(body).collect();
        let log = post("log-batch", json!({"run_id": id, "metrics": metrics}));
        client.change("log metrics", &log).await?;
        if let Some(run) = client.journal().lock().runs.get_mut(id) {
            run.points.extend(points);
        }
        if !client.pause(PAUSE_MS).await {
            return None;
        }
    }
    let finish = json!({"run_id": id, "status": "FINISHED", "end_time": now_ms()});
    client.change("finish a run", &post("update", finish)).await?;
    if let Some(run) = client.journal().lock().runs.get_mut(id) {
        run.finished = true;
    }
    Some(())
}
