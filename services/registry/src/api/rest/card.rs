//! REST v1: model cards.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_http_server::Problem;
use slipway_http_server::extract::{Path, Query};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::approvals::ApprovalBody;
use super::{reports, version_name};
use crate::access::caller::Caller;
use crate::models::card;
use crate::models::lineage::{Lineage, code_tags, datasets};
use crate::state::Registry;
use crate::store::runs::Run;

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(show))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct CardQuery {
    /// `json` or `markdown`.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Markdown,
}

/// Writes the model card of a version.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/card", tag = "models",
    params(("name" = String, Path), ("version" = String, Path), CardQuery),
    responses((status = 200, content((Object = "application/json"), (String = "text/markdown")))))]
async fn show(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<CardQuery>,
) -> Result<Response, Problem> {
    let lineage = Lineage::of(&registry, &caller, version_name(&name, &version)?).await?;
    Ok(match query.format {
        Format::Json => axum::Json(json_card(&lineage)).into_response(),
        Format::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], card::markdown(&lineage))
                .into_response()
        }
    })
}

/// The card as JSON.
fn json_card(facts: &Lineage) -> Value {
    let version = &facts.version;
    let known = &version.facts.0;
    let signature = known.signature.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "model": version.name,
        "version": version.version.to_string(),
        "digest": version.digest,
        "description": version.description,
        "aliases": version.aliases,
        "tags": version.tags.0.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "created_at_unix_ms": version.created_ms,
        "servable": version.servable,
        "unservable_reason": known.unservable_reason,
        "inputs": known.inputs,
        "outputs": known.outputs,
        "joining": known.joining,
        "signature": signature,
        "profile_misfit": known.profile_misfit,
        "metrics": metrics(facts),
        "run": facts.run.as_ref().map(run),
        "run_hidden": facts.run_hidden(),
        "scan": known.scan,
        "signing": facts.known.signing.verdict,
        "reports": facts.known.reports.iter().map(reports::body).collect::<Vec<_>>(),
        "approvals": facts.known.approvals.iter().map(ApprovalBody::from).collect::<Vec<_>>(),
        "deployments": facts.places(),
        "missing": facts.known.evidence.missing_from_card(&[]),
    })
}

/// Numbers as JSON, what is none as text.
fn metrics(facts: &Lineage) -> Value {
    let number = |value: f64| if value.is_finite() { json!(value) } else { json!(value.to_string()) };
    facts.known.evidence.metrics.iter().map(|(key, value)| (key.clone(), number(*value))).collect()
}

fn run(run: &Run) -> Value {
    let code: serde_json::Map<String, Value> =
        code_tags(run).map(|(name, value)| (name.to_owned(), value.into())).collect();
    let info = &run.info;
    json!({
        "run_id": info.run_id, "name": info.name, "user": info.user_id, "status": info.status,
        "experiment_id": info.experiment_id.to_string(), "start_time": info.start_ms, "end_time": info.end_ms,
        "params": pairs(&run.param_keys, &run.param_values).collect::<serde_json::Map<String, Value>>(),
        "datasets": datasets(run), "code": code,
    })
}

fn pairs<'run>(keys: &'run [String], values: &'run [String]) -> impl Iterator<Item = (String, Value)> + 'run {
    keys.iter().zip(values).map(|(key, value)| (key.clone(), value.as_str().into()))
}
