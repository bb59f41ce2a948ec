//! Runs as MLflow's messages.

use serde_json::{Value, json};

use super::experiments::stage;
use super::message::{Message, double};
use crate::store::runs::{DatasetInput, Run, RunInfo};

/// `RunInfo`.
pub(super) fn info(run: &RunInfo) -> Message {
    Message::new()
        .put("run_id", run.run_id.clone())
        .put("run_uuid", run.run_id.clone())
        .put("run_name", run.name.clone())
        .put("experiment_id", run.experiment_id.to_string())
        .put("user_id", run.user_id.clone())
        .put("status", run.status.clone())
        .put("start_time", run.start_ms)
        .maybe("end_time", run.end_ms)
        .put("artifact_uri", run.artifact_uri.clone())
        .put("lifecycle_stage", stage(run.deleted_ms))
}

/// `Run`: info, data, inputs, outputs.
pub(super) fn full(run: &Run) -> Message {
    let outputs: Vec<Value> = run
        .model_outputs
        .0
        .iter()
        .map(|(model_id, step)| json!({"model_id": model_id, "step": step}))
        .collect();
    let message =
        Message::new().put("info", info(&run.info)).put("data", data(run)).put("inputs", inputs(run));
    if outputs.is_empty() { message } else { message.put("outputs", json!({ "model_outputs": outputs })) }
}

fn data(run: &Run) -> Message {
    let metrics = columns4(run).map(|(key, value, at_ms, step)| metric(key, value, at_ms, step)).collect();
    Message::new()
        .list("metrics", metrics)
        .pairs("params", &pairs(&run.param_keys, &run.param_values))
        .pairs("tags", &pairs(&run.tag_keys, &run.tag_values))
}

/// `Metric`, without what it belongs to.
pub(super) fn metric(key: &str, value: f64, at_ms: i64, step: i64) -> Value {
    json!({"key": key, "value": double(value), "timestamp": at_ms, "step": step})
}

fn columns4(run: &Run) -> impl Iterator<Item = (&str, f64, i64, i64)> {
    let keys = run.metric_keys.iter().flatten();
    let values = run.metric_values.iter().flatten();
    let times = run.metric_times.iter().flatten();
    let steps = run.metric_steps.iter().flatten();
    keys.zip(values)
        .zip(times)
        .zip(steps)
        .map(|(((key, value), time), step)| (key.as_str(), *value, *time, *step))
}

fn pairs(keys: &Option<Vec<String>>, values: &Option<Vec<String>>) -> Vec<(String, String)> {
    keys.iter().flatten().cloned().zip(values.iter().flatten().cloned()).collect()
}

fn inputs(run: &Run) -> Message {
    let datasets = run.dataset_inputs.0.iter().map(dataset).collect();
    let models = run.model_inputs.iter().map(|model_id| json!({ "model_id": model_id })).collect();
    Message::new().list("dataset_inputs", datasets).list("model_inputs", models)
}

fn dataset(input: &DatasetInput) -> Value {
    let tags: Vec<(String, String)> =
        input.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let dataset = Message::new()
        .put("name", input.name.clone())
        .put("digest", input.digest.clone())
        .put("source_type", input.source_type.clone())
        .put("source", input.source.clone())
        .maybe("schema", input.schema.clone())
        .maybe("profile", input.profile.clone());
    Message::new().pairs("tags", &tags).put("dataset", dataset).into_value()
}
