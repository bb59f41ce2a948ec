//! Many runs at once, with everything: one short statement a table, whose plan is the same for ten runs and for a thousand.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::types::Json;

use super::runs::{DatasetInput, Run, RunInfo};
use crate::error::Error;

/// A run's own row in a page.
const INFOS: &str = "SELECT run_key, run_id, experiment_id, name, user_id, status, start_ms, end_ms, artifact_uri, deleted_ms \
    FROM runs WHERE run_key = ANY($1)";
const METRICS: &str = "SELECT run_key, array_agg(key), array_agg(value), array_agg(at_ms), array_agg(step) \
    FROM latest_metrics WHERE run_key = ANY($1) GROUP BY run_key";
const PARAMS: &str = "SELECT run_key, array_agg(key), array_agg(value) FROM run_params WHERE run_key = ANY($1) GROUP BY run_key";
const TAGS: &str =
    "SELECT run_key, array_agg(key), array_agg(value) FROM run_tags WHERE run_key = ANY($1) GROUP BY run_key";
const DATASETS: &str = "SELECT i.run_key, json_build_object('name', d.name, 'digest', d.digest, 'source_type', d.source_type, \
      'source', d.source, 'schema', d.schema, 'profile', d.profile, 'tags', i.tags) \
    FROM run_datasets i JOIN datasets d USING (dataset_key) WHERE i.run_key = ANY($1) ORDER BY d.dataset_key";
const MODEL_INPUTS: &str =
    "SELECT run_key, model_id FROM run_model_inputs WHERE run_key = ANY($1) ORDER BY model_id";
const OUTPUTS: &str =
    "SELECT run_key, model_id, step FROM run_outputs WHERE run_key = ANY($1) ORDER BY step, model_id";

/// Those runs with everything, in that order; one that is gone meanwhile is left out.
pub(crate) async fn runs_get(db: &mut PgConnection, run_keys: &[i64]) -> Result<Vec<Run>, Error> {
    if run_keys.is_empty() {
        return Ok(Vec::new());
    }
    let infos: Vec<RunInfo> = sqlx::query_as(INFOS).bind(run_keys).fetch_all(&mut *db).await?;
    let mut runs: HashMap<i64, Run> = infos.into_iter().map(|info| (info.run_key, info.into())).collect();
    add_metrics(db, run_keys, &mut runs).await?;
    for (statement, of_params) in [(PARAMS, true), (TAGS, false)] {
        type Row = (i64, Vec<String>, Vec<String>);
        let rows: Vec<Row> = sqlx::query_as(statement).bind(run_keys).fetch_all(&mut *db).await?;
        for (run_key, keys, values) in rows {
            if let Some(run) = runs.get_mut(&run_key) {
                let columns = if of_params {
                    (&mut run.param_keys, &mut run.param_values)
                } else {
                    (&mut run.tag_keys, &mut run.tag_values)
                };
                (*columns.0, *columns.1) = (keys, values);
            }
        }
    }
    add_flow(db, run_keys, &mut runs).await?;
    Ok(run_keys.iter().filter_map(|run_key| runs.remove(run_key)).collect())
}

async fn add_metrics(
    db: &mut PgConnection,
    run_keys: &[i64],
    runs: &mut HashMap<i64, Run>,
) -> Result<(), Error> {
    type Row = (i64, Vec<String>, Vec<f64>, Vec<i64>, Vec<i64>);
    let rows: Vec<Row> = sqlx::query_as(METRICS).bind(run_keys).fetch_all(db).await?;
    for (run_key, keys, values, times, steps) in rows {
        if let Some(run) = runs.get_mut(&run_key) {
            (run.metric_keys, run.metric_values) = (keys, values);
            (run.metric_times, run.metric_steps) = (times, steps);
        }
    }
    Ok(())
}

/// What went in and what came out.
async fn add_flow(
    db: &mut PgConnection,
    run_keys: &[i64],
    runs: &mut HashMap<i64, Run>,
) -> Result<(), Error> {
    let datasets: Vec<(i64, Json<DatasetInput>)> =
        sqlx::query_as(DATASETS).bind(run_keys).fetch_all(&mut *db).await?;
    for (run_key, Json(input)) in datasets {
        if let Some(run) = runs.get_mut(&run_key) {
            run.dataset_inputs.0.push(input);
        }
    }
    let models: Vec<(i64, String)> = sqlx::query_as(MODEL_INPUTS).bind(run_keys).fetch_all(&mut *db).await?;
    for (run_key, model_id) in models {
        if let Some(run) = runs.get_mut(&run_key) {
            run.model_inputs.push(model_id);
        }
    }
    let outputs: Vec<(i64, String, i64)> = sqlx::query_as(OUTPUTS).bind(run_keys).fetch_all(db).await?;
    for (run_key, model_id, step) in outputs {
        if let Some(run) = runs.get_mut(&run_key) {
            run.model_outputs.0.push((model_id, step));
        }
    }
    Ok(())
}

impl From<RunInfo> for Run {
    /// A run that nothing was logged to.
    fn from(info: RunInfo) -> Self {
        Self {
            info,
            metric_keys: Vec::new(),
            metric_values: Vec::new(),
            metric_times: Vec::new(),
            metric_steps: Vec::new(),
            param_keys: Vec::new(),
            param_values: Vec::new(),
            tag_keys: Vec::new(),
            tag_values: Vec::new(),
            dataset_inputs: Json(Vec::new()),
            model_inputs: Vec::new(),
            model_outputs: Json(Vec::new()),
        }
    }
}
