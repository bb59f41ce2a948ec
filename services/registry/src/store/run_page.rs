//! Many runs at once, with everything: one short statement a table, whose plan is the same for ten runs and
//! for a thousand. What there is much of comes as columns in one row, because a row of its own costs more
//! than what is in it.

use std::collections::HashMap;
use std::ops::Range;

use sqlx::PgConnection;
use sqlx::types::Json;

use super::runs::{DatasetInput, Run, RunInfo};
use crate::error::Error;

const METRICS: &str = "SELECT coalesce(array_agg(run_key), '{}'), coalesce(array_agg(key), '{}'), \
    coalesce(array_agg(value), '{}'), \
      coalesce(array_agg(at_ms), '{}'), coalesce(array_agg(step), '{}') \
    FROM (SELECT * FROM latest_metrics WHERE run_key = ANY($1) ORDER BY run_key) AS x";
const PARAMS: &str = "SELECT coalesce(array_agg(run_key), '{}'), coalesce(array_agg(key), '{}'), \
    coalesce(array_agg(value), '{}') \
    FROM (SELECT * FROM run_params WHERE run_key = ANY($1) ORDER BY run_key) AS x";
const TAGS: &str = "SELECT coalesce(array_agg(run_key), '{}'), coalesce(array_agg(key), '{}'), \
    coalesce(array_agg(value), '{}') \
    FROM (SELECT * FROM run_tags WHERE run_key = ANY($1) ORDER BY run_key) AS x";
const DATASETS: &str = "SELECT i.run_key, json_build_object('name', d.name, 'digest', d.digest, \
    'source_type', d.source_type, \
      'source', d.source, 'schema', d.schema, 'profile', d.profile, 'tags', i.tags) \
    FROM run_datasets i JOIN datasets d USING (dataset_key) WHERE i.run_key = ANY($1) ORDER BY d.dataset_key";
const MODEL_INPUTS: &str =
    "SELECT run_key, model_id FROM run_model_inputs WHERE run_key = ANY($1) ORDER BY model_id";
const OUTPUTS: &str =
    "SELECT run_key, model_id, step FROM run_outputs WHERE run_key = ANY($1) ORDER BY step, model_id";

/// Those runs with everything, in that order.
pub(crate) async fn runs_with_everything(
    db: &mut PgConnection,
    infos: Vec<RunInfo>,
) -> Result<Vec<Run>, Error> {
    if infos.is_empty() {
        return Ok(Vec::new());
    }
    let run_keys: Vec<i64> = infos.iter().map(|info| info.run_key).collect();
    let mut runs: HashMap<i64, Run> = infos.into_iter().map(|info| (info.run_key, info.into())).collect();
    add_metrics(db, &run_keys, &mut runs).await?;
    add_pairs(db, (PARAMS, &run_keys), &mut runs, |run| (&mut run.param_keys, &mut run.param_values)).await?;
    add_pairs(db, (TAGS, &run_keys), &mut runs, |run| (&mut run.tag_keys, &mut run.tag_values)).await?;
    add_flow(db, &run_keys, &mut runs).await?;
    Ok(run_keys.iter().filter_map(|run_key| runs.remove(run_key)).collect())
}

async fn add_metrics(
    db: &mut PgConnection,
    run_keys: &[i64],
    runs: &mut HashMap<i64, Run>,
) -> Result<(), Error> {
    type Columns = (Vec<i64>, Vec<String>, Vec<f64>, Vec<i64>, Vec<i64>);
    let columns: Columns = sqlx::query_as(METRICS).bind(run_keys).fetch_one(db).await?;
    let (owners, mut keys, values, times, steps) = columns;
    for (owner, rows) in stretches(&owners) {
        if let Some(run) = runs.get_mut(&owner) {
            run.metric_keys = keys[rows.clone()].iter_mut().map(std::mem::take).collect();
            run.metric_values = values[rows.clone()].to_vec();
            run.metric_times = times[rows.clone()].to_vec();
            run.metric_steps = steps[rows].to_vec();
        }
    }
    Ok(())
}

async fn add_pairs(
    db: &mut PgConnection,
    (statement, run_keys): (&'static str, &[i64]),
    runs: &mut HashMap<i64, Run>,
    columns_of: impl Fn(&mut Run) -> (&mut Vec<String>, &mut Vec<String>),
) -> Result<(), Error> {
    type Columns = (Vec<i64>, Vec<String>, Vec<String>);
    let columns: Columns = sqlx::query_as(statement).bind(run_keys).fetch_one(db).await?;
    let (owners, mut keys, mut values) = columns;
    for (owner, rows) in stretches(&owners) {
        if let Some(run) = runs.get_mut(&owner) {
            let (of_keys, of_values) = columns_of(run);
            of_keys.extend(keys[rows.clone()].iter_mut().map(std::mem::take));
            of_values.extend(values[rows].iter_mut().map(std::mem::take));
        }
    }
    Ok(())
}

/// Where the rows of each run lie, which are next to each other.
fn stretches(owners: &[i64]) -> impl Iterator<Item = (i64, Range<usize>)> {
    let mut from = 0;
    owners.chunk_by(|left, right| left == right).map(move |chunk| {
        let rows = from..from + chunk.len();
        from = rows.end;
        (chunk[0], rows)
    })
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
