//! REST v1: the purge of deleted runs, logged models and experiments.

use axum::Json;
use axum::extract::State;
use slipway_api::rest::registry::{PurgeRequest, Purged};
use slipway_http_server::Problem;
use slipway_http_server::extract::JsonBody;
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use crate::cleanup::deleted;
use crate::clock::now_ms;
use crate::state::Registry;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(purge))
}

const DEFAULT_PURGE_AGE_S: i64 = 30 * 24 * 3_600;
const DEFAULT_PURGE_LIMIT: i64 = 100;
const MAX_PURGE_LIMIT: i64 = 1_000;

/// Purges deleted runs, logged models and experiments, or counts them; repeat while `more` is true.
#[utoipa::path(post, path = "/api/v1/purge", tag = "lifecycle", request_body = PurgeRequest,
    responses((status = 200, body = Purged)))]
async fn purge(
    State(registry): State<Registry>,
    JsonBody(request): JsonBody<PurgeRequest>,
) -> Answer<Purged> {
    let age_s = request.older_than_s.unwrap_or(DEFAULT_PURGE_AGE_S);
    if age_s < 0 {
        return Err(Problem::invalid("older_than_s", format!("expected 0 or more seconds, got {age_s}")));
    }
    let limit = request.limit.unwrap_or(DEFAULT_PURGE_LIMIT);
    if !(1..=MAX_PURGE_LIMIT).contains(&limit) {
        return Err(Problem::invalid("limit", format!("expected 1 to {MAX_PURGE_LIMIT}, got {limit}")));
    }
    let before_ms = now_ms().saturating_sub(age_s.saturating_mul(1_000));
    let dry_run = request.dry_run.unwrap_or(true);
    let due = if dry_run {
        deleted::due(&registry, before_ms).await?
    } else {
        deleted::purge(&registry, before_ms, limit).await?
    };
    let more = !dry_run && (due.runs == limit || due.logged_models == limit || due.experiments == limit);
    Ok(Json(Purged {
        dry_run,
        runs: due.runs,
        logged_models: due.logged_models,
        experiments: due.experiments,
        files: due.files,
        size_bytes: due.size_bytes,
        more,
        runs_kept: dry_run.then_some(due.runs_kept),
    }))
}
