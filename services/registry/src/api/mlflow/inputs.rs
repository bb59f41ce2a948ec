//! What a run took in and brought forth: data sets and logged models.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::json;
use slipway_domain::registry::{validate_dataset, validate_input_tag};

use super::message::Message;
use super::search::experiment_ids;
use super::{Answer, Fields, answer, empty};
use crate::access::caller::Caller;
use crate::access::links::LoggedModelLink;
use crate::access::references;
use crate::error::Error;
use crate::state::Registry;
use crate::store::datasets::{self as table, NewInput};
use crate::store::{logged_models, runs};

/// Experiments whose data sets one request asks for.
const MAX_EXPERIMENTS: usize = 20;
const MAX_SUMMARIES: i64 = 1_000;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    Router::new()
        .route(&format!("{prefix}/2.0/mlflow/runs/log-inputs"), post(log_inputs))
        .route(&format!("{prefix}/2.0/mlflow/runs/outputs"), post(log_outputs))
        .route(&format!("{prefix}/2.0/mlflow/experiments/search-datasets"), post(search_datasets))
}

fn input(fields: &mut Fields) -> Result<NewInput, Error> {
    let tags = fields.pairs("tags")?;
    for (key, value) in &tags {
        validate_input_tag(key, value)?;
    }
    let dataset = fields.message("dataset")?;
    let input = NewInput {
        name: dataset.required("name")?,
        digest: dataset.required("digest")?,
        source_type: dataset.required("source_type")?,
        source: dataset.string("source")?.ok_or_else(|| dataset.missing("source"))?,
        schema: dataset.string("schema")?,
        profile: dataset.string("profile")?,
        tags,
    };
    validate_dataset(
        &input.name,
        &input.digest,
        &input.source,
        input.schema.as_deref(),
        input.profile.as_deref(),
    )?;
    Ok(input)
}

async fn log_inputs(State(registry): State<Registry>, caller: Caller, mut fields: Fields) -> Answer {
    let run_id = fields.run_id()?;
    let inputs =
        fields.messages("datasets")?.iter_mut().map(input).collect::<Result<Vec<NewInput>, Error>>()?;
    let models = fields
        .messages("models")?
        .iter()
        .map(|model| model.required("model_id"))
        .collect::<Result<Vec<String>, Error>>()?;
    let mut change = registry.change().await?;
    let run = runs::run_active(change.db(), &run_id).await?;
    let linked = references::logged_models(change.db(), &caller, models.clone()).await?;
    table::inputs_log(change.db(), &run, &inputs).await?;
    table::model_inputs_log(change.db(), &run, &linked).await?;
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    change.tell("run", "logged", run_id, json!({"datasets": names, "model_inputs": models})).await?;
    change.commit().await?;
    Ok(empty())
}

async fn log_outputs(State(registry): State<Registry>, caller: Caller, mut fields: Fields) -> Answer {
    let run_id = fields.run_id()?;
    fields.is_given("models")?;
    let outputs = fields
        .messages("models")?
        .iter()
        .map(|model| Ok((model.required("model_id")?, model.integer("step")?.unwrap_or(0))))
        .collect::<Result<Vec<(String, i64)>, Error>>()?;
    let mut change = registry.change().await?;
    let run = runs::run_active(change.db(), &run_id).await?;
    let model_ids = outputs.iter().map(|(model_id, _)| model_id.clone()).collect();
    let linked = references::logged_models(change.db(), &caller, model_ids).await?;
    for model in &linked {
        logged_models::logged_model_get(change.db(), model.model_id()).await?;
    }
    let steps = outputs.iter().map(|(_, step)| *step);
    let linked: Vec<(LoggedModelLink, i64)> = linked.into_iter().zip(steps).collect();
    table::outputs_log(change.db(), &run, &linked).await?;
    change.tell("run", "logged", run_id, json!({ "model_outputs": outputs })).await?;
    change.commit().await?;
    Ok(empty())
}

async fn search_datasets(State(registry): State<Registry>, caller: Caller, fields: Fields) -> Answer {
    match fields.strings("experiment_ids")?.len() {
        0 => return Err(Error::invalid("SearchDatasets request must specify at least one experiment_id.")),
        1..=MAX_EXPERIMENTS => {}
        count => {
            return Err(Error::invalid(format!(
                "SearchDatasets request cannot specify more than {MAX_EXPERIMENTS} experiment_ids. Received {count} \
                 experiment_ids."
            )));
        }
    }
    let ids = experiment_ids(&fields, &caller)?;
    let mut db = registry.pool.acquire().await?;
    let summaries = table::summaries(&mut db, &ids, MAX_SUMMARIES).await?;
    let summaries = summaries.iter().map(|summary| {
        Message::new()
            .put("experiment_id", summary.experiment_id.to_string())
            .put("name", summary.name.clone())
            .put("digest", summary.digest.clone())
            .maybe("context", summary.context.clone())
            .into_value()
    });
    Ok(answer(Message::new().list("dataset_summaries", summaries.collect())))
}
