//! Use cases of a run's inputs and outputs: datasets and logged models.

use serde_json::json;
use slipway_domain::registry::{validate_dataset, validate_input_tag};

use crate::access::caller::Caller;
use crate::access::links::LoggedModelLink;
use crate::access::references;
use crate::error::Error;
use crate::state::Registry;
use crate::store::datasets::{self as table, NewInput, Summary};
use crate::store::{logged_models, runs};

/// Most datasets that one request lists.
const MAX_SUMMARIES: i64 = 1_000;

/// Checks a dataset and its tags.
///
/// # Errors
/// A value is missing or too long.
pub(crate) fn validate(input: &NewInput) -> Result<(), Error> {
    for (key, value) in &input.tags {
        validate_input_tag(key, value)?;
    }
    let (schema, profile) = (input.schema.as_deref(), input.profile.as_deref());
    Ok(validate_dataset(&input.name, &input.digest, &input.source, schema, profile)?)
}

/// Logs datasets and logged models that a run used.
///
/// # Errors
/// The run does not exist or is deleted, the caller may not read a model, or Postgres is unreachable.
pub(crate) async fn log_inputs(
    registry: &Registry,
    caller: &Caller,
    run_id: &str,
    inputs: &[NewInput],
    model_ids: Vec<String>,
) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let run = runs::run_active(change.db(), run_id).await?;
    let linked = references::logged_models(change.db(), caller, model_ids.clone()).await?;
    table::inputs_log(change.db(), &run, inputs).await?;
    table::model_inputs_log(change.db(), &run, &linked).await?;
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    change.tell("run", "logged", run_id, json!({"datasets": names, "model_inputs": model_ids})).await?;
    change.commit().await
}

/// Logs the logged models that a run produced, each with the step.
///
/// # Errors
/// The run or a model does not exist, the caller may not read a model, or Postgres is unreachable.
pub(crate) async fn log_outputs(
    registry: &Registry,
    caller: &Caller,
    run_id: &str,
    outputs: &[(String, i64)],
) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let run = runs::run_active(change.db(), run_id).await?;
    let model_ids = outputs.iter().map(|(model_id, _)| model_id.clone()).collect();
    let linked = references::logged_models(change.db(), caller, model_ids).await?;
    for model in &linked {
        logged_models::logged_model_get(change.db(), model.model_id()).await?;
    }
    let steps = outputs.iter().map(|(_, step)| *step);
    let linked: Vec<(LoggedModelLink, i64)> = linked.into_iter().zip(steps).collect();
    table::outputs_log(change.db(), &run, &linked).await?;
    change.tell("run", "logged", run_id, json!({ "model_outputs": outputs })).await?;
    change.commit().await
}

/// The datasets of experiments.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn summaries(registry: &Registry, experiment_ids: &[i64]) -> Result<Vec<Summary>, Error> {
    table::summaries(&mut *registry.pool.acquire().await?, experiment_ids, MAX_SUMMARIES).await
}
