//! REST v1: garbage collection.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use slipway_api::rest::registry::{Collected, CollectionRequest, Orphan};
use slipway_http_server::Problem;
use slipway_http_server::extract::JsonBody;
use slipway_http_server::page::{PageQuery, encode};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use crate::cleanup::orphans;
use crate::state::Registry;

/// An upload takes no longer than this.
const DEFAULT_GRACE_S: u64 = 24 * 3_600;
const MAX_GRACE_S: u64 = 365 * 24 * 3_600;
const DEFAULT_LIMIT: u32 = 1_000;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(collect))
}

/// Frees unreferenced and orphaned objects of a page of the bucket, or reports them; repeat with
/// `next_page_token` until the bucket was walked.
///
/// It can be interrupted and repeated, also during uploads.
#[utoipa::path(post, path = "/api/v1/gc", tag = "lifecycle", request_body = CollectionRequest,
    responses((status = 200, body = Collected)))]
async fn collect(
    State(registry): State<Registry>,
    JsonBody(request): JsonBody<CollectionRequest>,
) -> Answer<Collected> {
    let grace_s = request.grace_s.unwrap_or(DEFAULT_GRACE_S);
    if grace_s > MAX_GRACE_S {
        return Err(Problem::invalid("grace_s", format!("expected at most {MAX_GRACE_S} seconds")));
    }
    let paging =
        PageQuery { limit: Some(request.limit.unwrap_or(DEFAULT_LIMIT)), page_token: request.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<String>()?);
    let dry_run = request.dry_run.unwrap_or(true);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let grace = Duration::from_secs(grace_s);
    let page = orphans::step(&registry, after.as_deref(), limit, grace, dry_run).await?;
    let orphaned: u64 = page.orphans.iter().map(|orphan| orphan.size_bytes).sum();
    let orphans =
        page.orphans.into_iter().map(|orphan| Orphan { key: orphan.key, size_bytes: orphan.size_bytes });
    Ok(Json(Collected {
        dry_run,
        examined: page.examined as u64,
        orphans: orphans.collect(),
        loose: page.loose.objects,
        size_bytes: page.loose.size_bytes + orphaned,
        next_page_token: page.next.as_ref().map(encode),
    }))
}
