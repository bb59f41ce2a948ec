//! REST v1: the audit trail.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_audit::{AuditRow, Filter};
use slipway_http_server::Problem;
use slipway_http_server::extract::Query;
use slipway_http_server::page::{PageQuery, cut};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::audit_trail;
use crate::state::Registry;

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// Who did it.
    principal: Option<String>,
    /// Kind of thing that it was done to, e.g. `alias`.
    #[param(example = "alias")]
    entity: Option<String>,
    /// That thing.
    id: Option<String>,
    /// Unix milliseconds; from then on.
    since: Option<i64>,
    /// Unix milliseconds; before then.
    until: Option<i64>,
    /// `newest` first, or `chain`: from the beginning, each row with the `record` that its hash is over.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    // No `flatten`: with it a query string's numbers arrive as text.
    /// Items of a page, 1 to 1000; 50 where absent.
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// As the chain goes; each row then has its `record`, over which its hash is.
    Chain,
}

/// A write.
#[derive(Debug, Serialize, ToSchema)]
struct AuditEntry {
    /// Place in the chain, counted from 1.
    seq: i64,
    event_id: String,
    at_unix_ms: i64,
    /// `anonymous` where access is off, `system` for what the registry did by itself.
    principal: String,
    credential: String,
    /// Address that the request came from.
    origin: String,
    trace_id: String,
    entity: String,
    what: String,
    id: String,
    details: Value,
    /// SHA-256 over the hash before and the record, hex.
    hash: String,
    /// What the hash is over; in the order `chain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
}

/// A page of writes.
#[derive(Debug, Serialize, ToSchema)]
struct AuditPage {
    audit: Vec<AuditEntry>,
    head: Head,
    /// Leads to the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// The end of the chain. Whoever keeps it elsewhere notices when the end is cut off.
#[derive(Debug, Serialize, ToSchema)]
struct Head {
    seq: i64,
    hash: String,
}

impl AuditEntry {
    fn new(row: &AuditRow, with_record: bool) -> Self {
        Self {
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
}

/// Lists who changed what, when and from where.
#[utoipa::path(get, path = "/api/v1/audit", tag = "access", params(AuditQuery), responses((status = 200, body = AuditPage)))]
async fn list(
    State(registry): State<Registry>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>, Problem> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<i64>()?);
    if let (Some(since), Some(until)) = (query.since, query.until)
        && since > until
    {
        return Err(Problem::invalid("until", format!("expected {since} (since) or later, got {until}")));
    }
    let chain = query.order == Order::Chain;
    let filter = Filter {
        principal: query.principal,
        entity: query.entity,
        id: query.id,
        since_ms: query.since,
        until_ms: query.until,
        ascending: chain,
    };
    let page = audit_trail::page(&registry, &filter, after, i64::from(limit) + 1).await?;
    let head = Head { seq: page.head_seq, hash: hex::encode(page.head_hash) };
    let (found, next_page_token) = cut(page.rows, limit, |row| row.seq);
    let audit = found.iter().map(|row| AuditEntry::new(row, chain)).collect();
    Ok(Json(AuditPage { audit, head, next_page_token }))
}
