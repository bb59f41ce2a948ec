//! Use case: read the audit trail.

use slipway_audit::{Filter, Page};

use crate::error::Error;
use crate::state::Registry;

/// Reads a page.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn page(
    registry: &Registry,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> Result<Page, Error> {
    Ok(slipway_audit::page(&registry.pool, filter, after, limit).await?)
}
