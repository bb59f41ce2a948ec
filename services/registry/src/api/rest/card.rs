//! REST v1: model cards.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
use slipway_api::rest::Number;
use slipway_api::rest::registry as body;
use slipway_http_server::Problem;
use slipway_http_server::extract::{Path, Query};
use slipway_openapi::{DocumentedRouter, routes};

use super::approvals::approval_body;
use super::bodies::{joining_body, logged_signature, scan_body, signature_verdict, tensors, version_name};
use super::lineage::{code, datasets, lineage_run, places};
use super::reports::report_details;
use crate::access::caller::Caller;
use crate::models::card;
use crate::models::lineage::Lineage;
use crate::state::Registry;
use crate::store::runs::Run;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(show))
}

/// Shows the model card of a version.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/card", tag = "versions",
    params(("name" = String, Path), ("version" = String, Path), body::CardQuery),
    responses((status = 200, content((body::Card = "application/json"), (String = "text/markdown")))))]
async fn show(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<body::CardQuery>,
) -> Result<Response, Problem> {
    let lineage = Lineage::of(&registry, &caller, version_name(&name, &version)?).await?;
    Ok(match query.format {
        body::CardFormat::Json => Json(card_body(&lineage)).into_response(),
        body::CardFormat::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], card::markdown(&lineage))
                .into_response()
        }
    })
}

fn card_body(facts: &Lineage) -> body::Card {
    let (version, known) = (&facts.version, &facts.version.facts.0);
    let metrics = facts.known.evidence.metrics.iter();
    body::Card {
        model: version.name.clone(),
        version: version.version.to_string(),
        digest: version.digest.clone(),
        description: version.description.clone(),
        aliases: version.aliases.clone(),
        tags: version.tags.0.iter().cloned().collect(),
        created_at_unix_ms: version.created_ms,
        servable: version.servable,
        unservable_reason: known.unservable_reason.clone(),
        inputs: tensors(&known.inputs),
        outputs: tensors(&known.outputs),
        joining: known.joining.as_ref().map(joining_body),
        signature: logged_signature(known),
        profile_misfit: known.profile_misfit.clone(),
        metrics: metrics.map(|(key, value)| (key.clone(), Number(*value))).collect(),
        run: facts.run.as_ref().map(card_run),
        run_hidden: facts.run_hidden().map(str::to_owned),
        scan: known.scan.as_ref().map(scan_body),
        signing: signature_verdict(&facts.known.signing.verdict),
        reports: facts.known.reports.iter().map(report_details).collect(),
        approvals: facts.known.approvals.iter().map(approval_body).collect(),
        deployments: places(facts),
        missing: facts.known.evidence.missing_from_card(&[]),
    }
}

fn card_run(run: &Run) -> body::CardRun {
    body::CardRun {
        run: lineage_run(run),
        params: run.param_keys.iter().cloned().zip(run.param_values.iter().cloned()).collect(),
        datasets: datasets(run),
        code: code(run).collect(),
    }
}
