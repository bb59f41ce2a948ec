//! From rows to the bodies of runs.

use slipway_api::rest::Number;
use slipway_api::rest::registry as body;

use super::experiments::stage;
use crate::store::runs::{DatasetInput, Run, RunInfo};

/// The state of a run. A status that the registry does not know counts as running.
fn status(status: &str) -> body::RunStatus {
    let known = body::RunStatus::ALL.into_iter().find(|known| known.name() == status);
    known.unwrap_or(body::RunStatus::Running)
}

pub(super) fn run_body(run: RunInfo) -> body::Run {
    body::Run {
        status: status(&run.status),
        lifecycle_stage: stage(run.deleted_ms),
        run_id: run.run_id,
        run_name: run.name,
        experiment_id: run.experiment_id.to_string(),
        user_id: run.user_id,
        start_time: run.start_ms,
        end_time: run.end_ms,
        artifact_uri: run.artifact_uri,
    }
}

fn pairs(keys: Vec<String>, values: Vec<String>) -> Vec<body::KeyValue> {
    let mut pairs: Vec<body::KeyValue> =
        keys.into_iter().zip(values).map(|(key, value)| body::KeyValue { key, value }).collect();
    pairs.sort_by(|left, right| left.key.cmp(&right.key));
    pairs
}

fn dataset(input: DatasetInput) -> body::RunDataset {
    let DatasetInput { dataset, tags } = input;
    body::RunDataset {
        name: dataset.name,
        digest: dataset.digest,
        source_type: dataset.source_type,
        source: dataset.source,
        tags,
    }
}

pub(super) fn run_details(run: Run) -> body::RunDetails {
    let columns =
        run.metric_keys.into_iter().zip(run.metric_values).zip(run.metric_times).zip(run.metric_steps);
    let mut metrics: Vec<body::Metric> = columns
        .map(|(((key, value), timestamp), step)| body::Metric { key, value: Number(value), timestamp, step })
        .collect();
    metrics.sort_by(|left, right| left.key.cmp(&right.key));
    let output = |(model_id, step): (String, i64)| body::ModelOutput { model_id, step };
    body::RunDetails {
        info: run_body(run.info),
        data: body::RunData {
            metrics,
            params: pairs(run.param_keys, run.param_values),
            tags: pairs(run.tag_keys, run.tag_values),
        },
        datasets: run.dataset_inputs.0.into_iter().map(dataset).collect(),
        model_inputs: run.model_inputs,
        model_outputs: run.model_outputs.0.into_iter().map(output).collect(),
    }
}
