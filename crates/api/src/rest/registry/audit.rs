//! The audit trail.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::JsonObject;

/// Which rows are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only changes by this principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Only changes of this kind of entity.
    #[param(example = "alias")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Only changes of this entity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Only changes at or after this time, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Only changes before this time, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// `newest` first, or `chain`: from the beginning, each row with the `record` that its hash covers.
    #[serde(default)]
    #[param(inline)]
    pub order: AuditOrder,
    // No `flatten`: with it, numbers of a query string arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// Order of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditOrder {
    /// Newest first.
    #[default]
    Newest,
    /// From the beginning; each row has its `record`.
    Chain,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Position in the chain, from 1.
    pub seq: i64,
    /// ID of the event of this change.
    pub event_id: String,
    /// Time of the change.
    pub at_unix_ms: i64,
    /// `anonymous` if access control is off, `system` for what the registry did itself.
    pub principal: String,
    /// What authenticated the principal.
    pub credential: String,
    /// Address that the request came from.
    pub origin: String,
    /// Trace of the request.
    pub trace_id: String,
    /// Kind of entity.
    pub entity: String,
    /// What happened to it.
    pub what: String,
    /// ID or name of the entity.
    pub id: String,
    /// Facts about the change; docs/events.md lists them by `entity` and `what`.
    pub details: JsonObject,
    /// SHA-256 over the previous hash and the record, hex.
    pub hash: String,
    /// The text that the hash covers; only in the order `chain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

/// A page of changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The changes.
    pub audit: Vec<AuditEntry>,
    /// End of the chain when the page was read.
    pub head: AuditHead,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// End of the chain. A copy that is kept elsewhere reveals whether the chain was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHead {
    /// Position of the last row.
    pub seq: i64,
    /// Hash of the last row, hex.
    pub hash: String,
}
