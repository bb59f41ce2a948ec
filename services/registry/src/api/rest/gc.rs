//! REST v1: garbage collection.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use slipway_http_server::Problem;
use slipway_http_server::extract::JsonBody;
use slipway_http_server::page::{PageQuery, encode};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::cleanup::orphans;
use crate::state::Registry;

/// An upload takes no longer than this.
const DEFAULT_GRACE_S: u64 = 24 * 3_600;
const MAX_GRACE_S: u64 = 365 * 24 * 3_600;
const DEFAULT_LIMIT: u32 = 1_000;

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(collect))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Collection {
    /// Says what would go; the default.
    dry_run: Option<bool>,
    /// Only what has been garbage for so many seconds; a day where absent. With less, uploads under way may be told to try again.
    #[schema(example = 86400)]
    grace_s: Option<u64>,
    /// Objects of the bucket to look at, 1 to 1000.
    limit: Option<u32>,
    /// `next_page_token` of the answer before.
    page_token: Option<String>,
}

/// An object of the bucket that no row knows.
#[derive(Debug, Serialize, ToSchema)]
struct Orphan {
    key: String,
    size_bytes: u64,
}

/// What a page of a collection came to.
#[derive(Debug, Serialize, ToSchema)]
struct Collected {
    dry_run: bool,
    /// Objects of the bucket that were looked at.
    examined: usize,
    /// Objects of the bucket that no row knows.
    orphans: Vec<Orphan>,
    /// Objects that were let go of, or whose upload broke off; counted with the first page.
    loose: u64,
    /// Bytes freed, of both kinds.
    size_bytes: u64,
    /// Leads to the next page of the bucket; absent at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// Frees the bytes that nothing refers to, or says which; asked again with `next_page_token` until the bucket was walked.
///
/// It may be interrupted and repeated, and beside uploads.
#[utoipa::path(post, path = "/api/v1/gc", tag = "lifecycle", request_body = Collection, responses((status = 200, body = Collected)))]
async fn collect(
    State(registry): State<Registry>,
    JsonBody(request): JsonBody<Collection>,
) -> Result<Json<Collected>, Problem> {
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
        examined: page.examined,
        orphans: orphans.collect(),
        loose: page.loose.objects,
        size_bytes: page.loose.size_bytes + orphaned,
        next_page_token: page.next.as_ref().map(encode),
    }))
}
