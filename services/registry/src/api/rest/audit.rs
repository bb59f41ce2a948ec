//! REST v1: the audit trail.

use axum::Json;
use axum::extract::State;
use slipway_api::rest::registry as body;
use slipway_audit::{AuditRow, Filter};
use slipway_http_server::Problem;
use slipway_http_server::extract::Query;
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use crate::access::audit_trail;
use crate::state::Registry;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(list))
}

fn entry(row: &AuditRow, with_record: bool) -> body::AuditEntry {
    body::AuditEntry {
        seq: row.seq,
        event_id: row.event_id.clone(),
        at_unix_ms: row.at_ms,
        principal: row.principal.clone(),
        credential: row.credential.clone(),
        origin: row.origin.clone(),
        trace_id: row.trace_id.clone(),
        entity: row.entity.clone(),
        what: row.what.clone(),
        id: row.id.clone(),
        details: serde_json::from_str(&row.details).unwrap_or_default(),
        hash: hex::encode(&row.hash),
        record: with_record.then(|| row.record().canonical()),
    }
}

/// Lists changes with their authors, times and origins.
#[utoipa::path(get, path = "/api/v1/audit", tag = "access", params(body::AuditQuery),
    responses((status = 200, body = body::AuditPage)))]
async fn list(
    State(registry): State<Registry>,
    Query(query): Query<body::AuditQuery>,
) -> Answer<body::AuditPage> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<i64>()?);
    if let (Some(since), Some(until)) = (query.since, query.until)
        && since > until
    {
        return Err(Problem::invalid("until", format!("expected {since} (since) or later, got {until}")));
    }
    let chain = query.order == body::AuditOrder::Chain;
    let filter = Filter {
        principal: query.principal,
        entity: query.entity,
        id: query.id,
        since_ms: query.since,
        until_ms: query.until,
        ascending: chain,
    };
    let page = audit_trail::page(&registry, &filter, after, i64::from(limit) + 1).await?;
    let head = body::AuditHead { seq: page.head_seq, hash: hex::encode(page.head_hash) };
    let (found, next_page_token) = cut(page.rows, limit, |row| row.seq);
    let audit = found.iter().map(|row| entry(row, chain)).collect();
    Ok(Json(body::AuditPage { audit, head, next_page_token }))
}
