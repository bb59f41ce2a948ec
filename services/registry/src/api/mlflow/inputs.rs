//! What a run took in and brought forth: data sets and logged models.

use axum::Router;
use axum::extract::State;
use axum::routing::post;

use super::error::Failure;
use super::message::Message;
use super::search::experiment_ids;
use super::{Answer, Fields, answer, empty};
use crate::access::caller::Caller;
use crate::state::Registry;
use crate::store::datasets::NewInput;
use crate::tracking::inputs as use_cases;

/// Experiments whose data sets one request asks for.
const MAX_EXPERIMENTS: usize = 20;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    Router::new()
        .route(&format!("{prefix}/2.0/mlflow/runs/log-inputs"), post(log_inputs))
        .route(&format!("{prefix}/2.0/mlflow/runs/outputs"), post(log_outputs))
        .route(&format!("{prefix}/2.0/mlflow/experiments/search-datasets"), post(search_datasets))
}

fn input(fields: &mut Fields) -> Result<NewInput, Failure> {
    let tags = fields.pairs("tags")?;
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
    use_cases::validate(&input)?;
    Ok(input)
}

async fn log_inputs(State(registry): State<Registry>, caller: Caller, mut fields: Fields) -> Answer {
    let run_id = fields.run_id()?;
    let inputs =
        fields.messages("datasets")?.iter_mut().map(input).collect::<Result<Vec<NewInput>, Failure>>()?;
    let models = fields
        .messages("models")?
        .iter()
        .map(|model| model.required("model_id"))
        .collect::<Result<Vec<String>, Failure>>()?;
    use_cases::log_inputs(&registry, &caller, &run_id, &inputs, models).await?;
    Ok(empty())
}

async fn log_outputs(State(registry): State<Registry>, caller: Caller, mut fields: Fields) -> Answer {
    let run_id = fields.run_id()?;
    fields.is_given("models")?;
    let outputs = fields
        .messages("models")?
        .iter()
        .map(|model| Ok((model.required("model_id")?, model.integer("step")?.unwrap_or(0))))
        .collect::<Result<Vec<(String, i64)>, Failure>>()?;
    use_cases::log_outputs(&registry, &caller, &run_id, &outputs).await?;
    Ok(empty())
}

async fn search_datasets(State(registry): State<Registry>, caller: Caller, fields: Fields) -> Answer {
    match fields.strings("experiment_ids")?.len() {
        0 => return Err(Failure::invalid("SearchDatasets request must specify at least one experiment_id.")),
        1..=MAX_EXPERIMENTS => {}
        count => {
            return Err(Failure::invalid(format!(
                "SearchDatasets request cannot specify more than {MAX_EXPERIMENTS} experiment_ids. Received \
                 {count} experiment_ids."
            )));
        }
    }
    let ids = experiment_ids(&fields, &caller)?;
    let summaries = use_cases::summaries(&registry, &ids).await?;
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
