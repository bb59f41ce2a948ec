//! REST v1: what a version was created from, and where it is deployed.

use axum::Json;
use axum::extract::State;
use slipway_api::rest::registry as body;
use slipway_http_server::extract::Path;
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::approvals::approval_body;
use super::bodies::{signature_verdict, version_name};
use super::reports::report_summary;
use crate::access::caller::Caller;
use crate::models::lineage::{Lineage, Place, code_tags, tag_of};
use crate::state::Registry;
use crate::store::logged_models::LoggedModel;
use crate::store::runs::{DatasetInput, Run};
use crate::store::tags::DATASET_CONTEXT_TAG;

/// Tags that identify the training job that made a run.
const JOB_TAGS: [(&str, &str); 4] = [
    ("slipway.job_id", "id"),
    ("slipway.job_name", "name"),
    ("slipway.attempt", "attempt"),
    ("slipway.restored_step", "restored_step"),
];

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(show))
}

/// Shows what a version was created from and where it is deployed: logged model, run, code, data sets, job
/// and checkpoint; signature, reports, approvals; deployments.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/lineage", tag = "versions",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = body::Lineage)))]
async fn show(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
) -> Answer<body::Lineage> {
    let lineage = Lineage::of(&registry, &caller, version_name(&name, &version)?).await?;
    Ok(Json(lineage_body(&lineage)))
}

fn lineage_body(lineage: &Lineage) -> body::Lineage {
    let version = &lineage.version;
    let logged_model = |model: &LoggedModel| body::LineageModel {
        model_id: model.model_id.clone(),
        name: model.name.clone(),
        source_run_id: model.source_run_id.clone().filter(|_| !lineage.run_is_hidden),
        created_at_unix_ms: model.created_ms,
    };
    let run = lineage.run.as_ref();
    body::Lineage {
        model: version.name.clone(),
        version: version.version.to_string(),
        digest: version.digest.clone(),
        source: version.source.clone(),
        created_at_unix_ms: version.created_ms,
        authors: lineage.known.evidence.authors.clone(),
        aliases: version.aliases.clone(),
        logged_model: lineage.logged_model.as_ref().map(logged_model),
        run: run.map(lineage_run),
        run_hidden: lineage.run_hidden().map(str::to_owned),
        code: run.map(|run| code(run).filter(|(name, _)| name != "job").collect()),
        job: run.and_then(job),
        datasets: run.map_or_else(Vec::new, datasets),
        signing: signature_verdict(&lineage.known.signing.verdict),
        reports: lineage.known.reports.iter().map(report_summary).collect(),
        approvals: lineage.known.approvals.iter().map(approval_body).collect(),
        deployments: places(lineage),
    }
}

pub(super) fn lineage_run(run: &Run) -> body::LineageRun {
    let info = &run.info;
    body::LineageRun {
        run_id: info.run_id.clone(),
        name: info.name.clone(),
        user: info.user_id.clone(),
        status: info.status.clone(),
        experiment_id: info.experiment_id.to_string(),
        start_time: info.start_ms,
        end_time: info.end_ms,
    }
}

pub(super) fn datasets(run: &Run) -> Vec<body::LineageDataset> {
    let dataset = |input: &DatasetInput| body::LineageDataset {
        name: input.dataset.name.clone(),
        digest: input.dataset.digest.clone(),
        source_type: input.dataset.source_type.clone(),
        context: input.tags.get(DATASET_CONTEXT_TAG).cloned(),
    };
    run.dataset_inputs.0.iter().map(dataset).collect()
}

pub(super) fn places(lineage: &Lineage) -> Vec<body::Place> {
    let place = |place: Place| body::Place {
        deployment: place.deployment,
        role: place.role.to_owned(),
        weight_percent: place.weight_percent,
        since_unix_ms: place.since_ms,
    };
    lineage.places().into_iter().map(place).collect()
}

/// Where the code of a run came from, by name.
pub(super) fn code(run: &Run) -> impl Iterator<Item = (String, String)> {
    code_tags(run).map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// The training job that made a run; `None` for a run that no job made.
fn job(run: &Run) -> Option<std::collections::BTreeMap<String, String>> {
    tag_of(run, JOB_TAGS[0].0)?;
    let known =
        JOB_TAGS.iter().filter_map(|(tag, name)| Some(((*name).to_owned(), tag_of(run, tag)?.to_owned())));
    Some(known.collect())
}
