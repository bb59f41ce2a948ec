//! The audit trail, read. The relay writes it, as it publishes what was committed.

use sqlx::{PgConnection, Postgres, QueryBuilder};

use crate::error::Error;

/// Begins a transaction whose statements all see the same rows.
pub(crate) const ONE_VIEW: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A row of the trail.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct AuditRow {
    pub(crate) seq: i64,
    pub(crate) event_id: uuid::Uuid,
    pub(crate) at_ms: i64,
    pub(crate) principal: String,
    pub(crate) credential: String,
    pub(crate) origin: String,
    pub(crate) trace_id: String,
    pub(crate) entity: String,
    pub(crate) what: String,
    pub(crate) id: String,
    pub(crate) details: String,
    pub(crate) hash: Vec<u8>,
}

/// Which rows are asked for.
#[derive(Debug, Default)]
pub(crate) struct AuditFilter {
    pub(crate) principal: Option<String>,
    pub(crate) entity: Option<String>,
    pub(crate) id: Option<String>,
    /// From this time on, Unix milliseconds.
    pub(crate) since_ms: Option<i64>,
    /// Before this time.
    pub(crate) until_ms: Option<i64>,
    /// The oldest first, which is the order of the chain.
    pub(crate) ascending: bool,
}

/// A page of the trail, behind the row of that number.
pub(crate) async fn audit_list(
    db: &mut PgConnection,
    filter: &AuditFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditRow>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT seq, event_id, at_ms, principal, credential, origin, trace_id, entity, what, id, details, hash \
         FROM audit WHERE TRUE",
    );
    if let Some(id) = &filter.id {
        // As the index has it.
        query.push(" AND left(id, 256) = left(").push_bind(id.clone()).push(", 256)");
    }
    for (column, wanted) in [("principal", &filter.principal), ("entity", &filter.entity), ("id", &filter.id)]
    {
        if let Some(wanted) = wanted {
            query.push(format!(" AND {column} = ")).push_bind(wanted.clone());
        }
    }
    if let Some(since) = filter.since_ms {
        query.push(" AND at_ms >= ").push_bind(since);
    }
    if let Some(until) = filter.until_ms {
        query.push(" AND at_ms < ").push_bind(until);
    }
    if let Some(after) = after {
        query.push(if filter.ascending { " AND seq > " } else { " AND seq < " }).push_bind(after);
    }
    query.push(if filter.ascending { " ORDER BY seq LIMIT " } else { " ORDER BY seq DESC LIMIT " });
    query.push_bind(limit);
    Ok(query.build_query_as().persistent(false).fetch_all(db).await?)
}

/// Number and hash of the last row.
pub(crate) async fn audit_head(db: &mut PgConnection) -> Result<(i64, Vec<u8>), Error> {
    Ok(sqlx::query_as("SELECT seq, hash FROM audit_head").fetch_one(db).await?)
}
