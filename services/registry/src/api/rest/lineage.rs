//! REST v1: where a version came from and where it went.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use slipway_http_server::extract::Path;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::approvals::ApprovalBody;
use super::{Answer, reports, version_name};
use crate::access::caller::Caller;
use crate::models::lineage::{Lineage, code_tags, datasets, tag_of};
use crate::state::Registry;
use crate::store::runs::Run;

/// Tags that identify the training job that made a run.
const JOB_TAGS: [(&str, &str); 4] = [
    ("slipway.job_id", "id"),
    ("slipway.job_name", "name"),
    ("slipway.attempt", "attempt"),
    ("slipway.restored_step", "restored_step"),
];

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Shows what a version was made from and where it is deployed: logged model, run, code, data sets, job and checkpoint; signature,
/// reports, approvals; deployments.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/lineage", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object)))]
async fn show(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
) -> Answer {
    Ok(Json(body(&Lineage::of(&registry, &caller, version_name(&name, &version)?).await?)))
}

fn body(lineage: &Lineage) -> Value {
    let version = &lineage.version;
    let logged_model = lineage.logged_model.as_ref().map(|model| {
        let source_run_id = model.source_run_id.as_ref().filter(|_| !lineage.run_is_hidden);
        json!({"model_id": model.model_id, "name": model.name, "source_run_id": source_run_id,
                "created_at_unix_ms": model.created_ms})
    });
    let run = lineage.run.as_ref().map(|run| {
            let info = &run.info;
            json!({"run_id": info.run_id, "name": info.name, "user": info.user_id, "status": info.status,
                "experiment_id": info.experiment_id.to_string(), "start_time": info.start_ms, "end_time": info.end_ms})
        });
    json!({
        "model": version.name,
        "version": version.version.to_string(),
        "digest": version.digest,
        "source": version.source,
        "created_at_unix_ms": version.created_ms,
        "authors": lineage.known.evidence.authors,
        "aliases": version.aliases,
        "logged_model": logged_model,
        "run": run,
        "run_hidden": lineage.run_hidden(),
        "code": lineage.run.as_ref().map(code),
        "job": lineage.run.as_ref().and_then(job),
        "datasets": lineage.run.as_ref().map_or_else(Vec::new, datasets),
        "signing": lineage.known.signing.verdict,
        "reports": lineage.known.reports.iter().map(reports::summary).collect::<Vec<_>>(),
        "approvals": lineage.known.approvals.iter().map(ApprovalBody::from).collect::<Vec<_>>(),
        "deployments": lineage.places(),
    })
}

fn code(run: &Run) -> Value {
    code_tags(run)
        .filter(|(name, _)| *name != "job")
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect()
}

/// The training job that a run was made by; `None` for a run of somebody's own.
fn job(run: &Run) -> Option<Value> {
    tag_of(run, JOB_TAGS[0].0)?;
    let told =
        JOB_TAGS.iter().filter_map(|(tag, name)| Some(((*name).to_owned(), Value::from(tag_of(run, tag)?))));
    Some(told.collect())
}
