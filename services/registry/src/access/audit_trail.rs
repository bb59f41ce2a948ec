//! Use case: read the audit trail.

use crate::error::Error;
use crate::state::Registry;
use crate::store::audit::{self as table, AuditFilter, AuditRow};

/// A page of the audit trail, and the end of the chain when it was read.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<AuditRow>,
    pub(crate) head_seq: i64,
    pub(crate) head_hash: Vec<u8>,
}

/// Reads a page.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn page(
    registry: &Registry,
    filter: &AuditFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Page, Error> {
    // One snapshot for both, so that a row which is added in between does not break a client's walk along the chain.
    let mut db = registry.pool.begin_with(table::ONE_VIEW).await?;
    let (head_seq, head_hash) = table::audit_head(&mut db).await?;
    let rows = table::audit_list(&mut db, filter, after, limit).await?;
    Ok(Page { rows, head_seq, head_hash })
}
